import type { RedactNamed } from './clauses.ts';
import { suspicionOf } from './key-words.ts';

/** A short option that takes a password. */
interface ShortOption {
  /** The command it belongs to, as a pattern. */
  readonly command: string;
  readonly option: string;
  /** How its value follows: as the next word, in the same one, or either way. */
  readonly value: 'apart' | 'glued' | 'either';
}

const shortOptions: readonly ShortOption[] = [
  { command: '(?:redis|valkey)-cli', option: '-a', value: 'apart' },
  { command: 'sshpass', option: '-p', value: 'either' },
  {
    command: '(?:mysql|mysqladmin|mysqldump|mysqlcheck|mariadb|mariadb-admin|mariadb-dump|mariadb-check)',
    option: '-p',
    value: 'glued',
  },
  {
    command: '(?:mongo|mongosh|mongodump|mongorestore|mongoexport|mongoimport)',
    option: '-p',
    value: 'either',
  },
  { command: '(?:docker|podman|nerdctl)\\s+login', option: '-p', value: 'either' },
  { command: 'ldap(?:search|add|modify|delete|passwd|whoami)', option: '-w', value: 'either' },
];

const value = `("(?:[^"\\\\]|\\\\.)*"|'[^']*'|(?!-)[^\\s"'\`;|&]+)`;

/** Values that follow their command without an option's name. */
const positional: readonly RegExp[] = [
  // `curl -u user:password`
  /(\b(?:curl|http|https|xh)\b[^\n|;]*?\s(?:-u|-a|--user|--auth)[\s=]*["']?[^\s:"']+:)([^\s"']+)/g,
  // `htpasswd -b FILE USER PASSWORD`
  /(\bhtpasswd\s+-\w*b\w*\s+\S+\s+\S+\s+)(\S+)/g,
  // `mc alias set NAME URL ACCESS-KEY SECRET-KEY`
  /(\bmc\s+alias\s+set\s+\S+\s+\S+\s+\S+\s+)(\S+)/g,
  // `openssl … -pass pass:PASSWORD`
  /(\s-pass(?:in|out)?\s+pass:)([^\s"']+)/g,
];

/** `echo PASSWORD | command --password-stdin` */
const piped = new RegExp(
  `(\\b(?:echo|printf)\\s+(?:-n\\s+|["']?%s(?:\\\\n)?["']?\\s+)?)${value}(\\s*\\|[^\\n]*-stdin\\b)`,
  'g',
);

/** Passwords on command lines: `--password x`, `--password=x`, `redis-cli -a x`, `curl -u user:x`, `mysql -px`. */
export function redactCommands(text: string, redact: RedactNamed): string {
  const named = new RegExp(
    `(?<![\\w-])(--?)([A-Za-z][\\w-]+)(=|[ \\t]+(?:\\\\\n\\s*)?|["'],\\s*(?=["']))(?!(?:pass|env|file|fd):)${value}`,
    'g',
  );
  let result = text.replace(named, (_, dashes: string, name: string, gap: string, raw: string) => {
    const flag = name.replaceAll('-', '_');
    return `${dashes}${name}${gap}${redact(flag, raw)}`;
  });
  const password = (_: string, before: string, raw: string, after: unknown): string =>
    `${before}${redact('password', raw)}${typeof after === 'string' ? after : ''}`;
  for (const { command, option, value: how } of shortOptions) {
    const gap = { apart: '\\s+', glued: '', either: '\\s*' }[how];
    result = result.replace(
      new RegExp(`(\\b${command}\\b[^\\n|;]*?\\s${option}${gap})${value}`, 'g'),
      password,
    );
  }
  for (const pattern of positional) result = result.replace(pattern, password);
  return result.replace(piped, password);
}

/** The part of an argument that is a password, and what its option is called. */
export interface SecretArgument {
  readonly key: string;
  /** Characters before the password in it, such as the 2 of `-px`. */
  readonly from: number;
}

/**
 * Judges one item of `["redis-server", "--requirepass", "x"]` by those before it.
 * @returns undefined when they do not make it a secret
 */
export function secretArgument(argv: readonly unknown[], position: number): SecretArgument | undefined {
  const [argument, previous] = [argv[position], argv[position - 1]];
  if (typeof argument !== 'string') return undefined;
  if (typeof previous === 'string') {
    const name = /^--?([A-Za-z][\w-]+)$/.exec(previous)?.[1]?.replaceAll('-', '_');
    if (name !== undefined && suspicionOf(name) !== 'none') return { key: name, from: 0 };
  }
  const before = argv
    .slice(0, position)
    .filter((item) => typeof item === 'string')
    .join(' ');
  for (const { command, option, value: how } of shortOptions) {
    if (!new RegExp(`\\b${command}(?:\\s|$)`).test(before)) continue;
    if (how !== 'glued' && previous === option) return { key: 'password', from: 0 };
    if (how !== 'apart' && argument.startsWith(option) && argument.length > option.length)
      return { key: 'password', from: option.length };
  }
  return undefined;
}
