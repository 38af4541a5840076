/** Options and places of a program's command line that hold a password. */
export interface ProgramRule {
  /** `-a PASSWORD` */
  readonly apart?: RegExp;
  /** `-pPASSWORD`; what precedes the password is the match. */
  readonly glued?: RegExp;
  /** `-u USER:PASSWORD`; the option alone. */
  readonly pair?: RegExp;
  /** Words that have to stand before the password. */
  readonly after?: RegExp;
  /** Positions of passwords among the words after the program (and after `after`) that are no options; -1 is the last. */
  readonly positions?: readonly number[];
}

const rule = (names: string, program: ProgramRule): [string, ProgramRule][] =>
  names.split(' ').map((name) => [name, program]);

/** By the name of the program. Long options with telling names need no entry here. */
const programs = new Map<string, readonly ProgramRule[]>();
for (const [name, program] of [
  ...rule('redis-cli valkey-cli keydb-cli', { apart: /^-a$/ }),
  ...rule('redis-cli valkey-cli keydb-cli', { after: /^auth$/i, positions: [-1] }),
  ...rule('sshpass', { apart: /^-p$/, glued: /^-p/ }),
  ...rule('mysql mysqladmin mysqldump mysqlcheck mysqlimport mysqlshow', { glued: /^-p/ }),
  ...rule('mariadb mariadb-admin mariadb-dump mariadb-check mariadb-import', { glued: /^-p/ }),
  ...rule('mongo mongosh mongodump mongorestore mongoexport mongoimport', { apart: /^-p$/, glued: /^-p/ }),
  ...rule('docker podman nerdctl skopeo buildah crane helm oras', {
    after: /^login$/,
    apart: /^-p$/,
    glued: /^-p/,
  }),
  ...rule('kadmin kadmin.local ldapsearch ldapadd ldapmodify ldapdelete ldappasswd ldapwhoami', {
    apart: /^-w$/,
    glued: /^-w/,
  }),
  ...rule('curl', { pair: /^-[a-zA-Z]*[uU]$|^--(?:proxy-)?user$/, glued: /^-[fgikLsSv]*[uU][^:]*:/ }),
  ...rule('http https xh xhs', { pair: /^(?:-a|--auth)$/ }),
  ...rule('lftp', { pair: /^-u$/ }),
  ...rule('smbclient rpcclient smbget net', { pair: /^(?:-U|--user)$/, glued: /^-U[^%]*%/ }),
  ...rule('zip unzip', { apart: /^-P$/, glued: /^-P/ }),
  ...rule('7z 7za 7zr 7zz', { glued: /^-p/ }),
  ...rule('rar unrar', { glued: /^-h?p/ }),
  ...rule('openssl', { apart: /^-[kK]$/, glued: /^pass:/ }),
  ...rule('mosquitto_pub mosquitto_sub mosquitto_rr ipmitool', { apart: /^-P$/ }),
  ...rule('snmpget snmpwalk snmpset snmptrap', { apart: /^-[cAX]$/ }),
  ...rule('bacula bconsole rabbitmqadmin cqlsh clickhouse-client', { apart: /^-p$/ }),
  ...rule('vault bao', { after: /^login$/, positions: [0] }),
  ...rule('htpasswd', { after: /^-[a-zA-Z]*b[a-zA-Z]*$/, positions: [-1] }),
  ...rule('mosquitto_passwd', { after: /^-[a-zA-Z]*b[a-zA-Z]*$/, positions: [-1] }),
  ...rule('mc mcli', { after: /^set$/, positions: [3] }),
  ...rule('mc mcli', { after: /^host$/, positions: [4] }),
  ...rule('rabbitmqctl', { after: /^(?:add_user|change_password)$/, positions: [1] }),
  ...rule('ConvertTo-SecureString', { positions: [0] }),
  ...rule('xfreerdp xfreerdp3', { glued: /^\/p:/ }),
] as const)
  programs.set(name, [...(programs.get(name) ?? []), program]);

/** The rules for a program, whatever folder it is called from. */
export const rulesFor = (word: string): readonly ProgramRule[] =>
  programs.get(word.slice(word.lastIndexOf('/') + 1)) ?? [];

/** Programs that read a password from what is piped into them, with the option that makes them, where there is one. */
export function readsPassword(words: readonly string[]): boolean {
  return words.some(
    (word) =>
      /-stdin$|^--passphrase-fd$|^(?:chpasswd|passwd|cryptsetup|smbpasswd)$/.test(word) ||
      (/^-[a-zA-Z]*S[a-zA-Z]*$/.test(word) && words.includes('sudo')),
  );
}
