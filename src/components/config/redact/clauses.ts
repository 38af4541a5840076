import { namePattern } from '../../../model/secret-names.ts';
import { redactSql } from '../../../model/sql-secrets.ts';

/**
 * Redacts one value, with its quotes, of a setting of that name; gives it back as it is when the name is innocent.
 */
export type RedactNamed = (key: string, raw: string) => string;

// Names are bounded and no two neighbouring parts match the same characters, so that each search stays linear.
const name = namePattern;
const quoted = String.raw`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'`;
/** `b'x'`, `r"x"` of Python. */
const literalMark = '[bBrRuUfF]{0,2}';

/** `"password": "x"`, `'password' => 'x'`, `'password', 'x'`, `"password" = "x"` */
const quotedPair = new RegExp(
  String.raw`((["'])(${name})\2\s*(?::|=>?|,)\s*${literalMark})(${quoted})`,
  'gsu',
);
/** `config['password'] = 'x'`, `config[:password] = "x"` */
const subscript = new RegExp(
  String.raw`(\[\s{0,9}(?:["'](${name})["']|:(${name}))\s{0,9}\]\s{0,9}(?:=>?|:=)\s{0,9}${literalMark})(${quoted})`,
  'gsu',
);
/** `\"password\": \"x\"`: JSON in a string. */
const escapedPair = new RegExp(String.raw`((?<!\\)(\\{1,7}")(${name})\2\s*:\s*\2)((?:(?!\\{0,7}").)*)`, 'gu');
/** `{ password: 'x', port: 80 }` */
const barePair = new RegExp(
  String.raw`((?<!\$)[{,(]\s*(${name})\s*:)(\s*(?:${quoted})|\s+[^\s,{}"'$[\]]+)`,
  'gsu',
);
/** `$http_x_token != "x"` of nginx and code. */
const comparison = new RegExp(
  String.raw`(?<![\p{L}\p{N}_$.])(\$?(${name})\s*(?:[!=]==?|[!=]?~\*?)\s*)("[^"\n]*"|'[^'\n]*')`,
  'gu',
);
/** Headers set by proxies and clients: `proxy_set_header X-Api-Key x;`, `-H 'X-Api-Key: x'`. */
const header = new RegExp(
  String.raw`((?:header(?:_up|_down)?|-H)[\s=]+["']?([A-Za-z][\w-]{0,80})["']?\s*(?::\s*)?["']?)(?!(?:bearer|basic|digest|token)\s)([^\s"':;][^\s"';]*)`,
  'gi',
);
/** `set :db_password, 'x'`, `:password => 'x'`, `:password "x"` */
const symbolPair = new RegExp(
  String.raw`((?<![\p{L}\p{N}_:]):(${name})(?:\s{0,9}(?:=>|,)\s{0,9}|\s{1,9}(?=")))(${quoted})`,
  'gsu',
);
/** Redis ACL rules within a text: `on >x ~* +@all` */
const aclRule =
  /(\b(?:on|off)\s{1,9}["']?[><#!])([^\s"']{1,400})(?=["']?\s{1,9}(?:[~&+%-]|all(?:keys|commands|channels)))/g;
/** What a value may be: of code that looks it up, of a shell that computes it, in quotes, or a word. */
const value = [
  // Within a text in single quotes.
  String.raw`''[^'\n]{1,400}''`,
  String.raw`[\w.$]{1,80}[[(]["'](?:[\w./:-]{1,80}|\[redacted\])["'][\])]`,
  String.raw`\$\([^()\n]{0,200}\)|${'`'}[^${'`'}\n]{0,200}${'`'}|\$\{[^{}\n]{0,400}\}`,
  String.raw`${literalMark}(?:"(?:[^"\\]|\\.)*"|'[^']*')`,
  String.raw`[^\s;&|,"'${'`'}<>]+`,
].join('|');
/** `<add key="Username" value="x"/>`, `<entry key="host">x</entry>`: what stands there is a name. */
const labelled = String.raw`[kK]ey\s?=\s?["'][\w.:-]{1,80}["']\s{0,9}(?:value\s?=|>[^<>\s])`;
/** `PASSWORD= PORT=5432`: the next setting, after one without a value. */
const afterEmpty = String.raw`(?<=\S=)[^\S\n][A-Z][A-Z0-9_]{0,80}=`;
/** `NAME=value` inside commands, query strings, connection strings and comments; also `-eNAME=value`. */
const assignment = new RegExp(
  String.raw`(?:(?<![\p{L}\p{N}_$-]|[\p{L}\p{N}_$-]\.)|(?<=(?:^|[\s"'=])-[eD]))(?!${labelled})(${name})([^\S\n]?(?::?=|=>(?=\s?["']))(?!${afterEmpty})[^\S\n]?)(?!(?:[bB]earer|[bB]asic|[dD]igest|[tT]oken)\s|\[\s*["'])(${value})`,
  'gsu',
);

/** `password: process.env.PW || 'x'`, `password = env.PW ?? "x"`: the value when there is no other. */
const fallback = new RegExp(
  String.raw`(?<![\p{L}\p{N}_$.-])((${name})["']?\s{0,3}[=:]\s{0,3}[\w.$()[\]"'-]{1,120}\s{0,3}(?:\|\||\?\?|\bor\b)\s{0,3})(${quoted})`,
  'gsu',
);

/** Settings in the midst of a text: of JSON, code, SQL, headers, connection strings, commands. */
export function redactClauses(text: string, redact: RedactNamed): string {
  return redactSql(text, redact)
    .replace(comparison, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(
      subscript,
      (_, before: string, key: string | undefined, symbol: string | undefined, raw: string) => {
        return `${before}${redact(key ?? symbol ?? '', raw)}`;
      },
    )
    .replace(
      quotedPair,
      (_, before: string, _quote, key: string, raw: string) => `${before}${redact(key, raw)}`,
    )
    .replace(
      escapedPair,
      (_, before: string, _quote, key: string, raw: string) => `${before}${redact(key, raw)}`,
    )
    .replace(symbolPair, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(aclRule, (_, before: string, raw: string) => `${before}${redact('password', raw)}`)
    .replace(barePair, (_, before: string, key: string, raw: string) => {
      const shown = raw.trimStart();
      return `${before}${raw.slice(0, raw.length - shown.length)}${redact(key, shown)}`;
    })
    .replace(fallback, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(header, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(assignment, (_, key: string, equals: string, raw: string) => {
      const shown = redact(key, raw);
      const isText = shown === raw && /^(["']).*\1$/s.test(raw);
      // `conninfo = 'host=a password=x'`: the text of an innocent setting may hold others.
      const within = isText ? raw.charAt(0) + redactClauses(raw.slice(1, -1), redact) + raw.charAt(0) : shown;
      return `${key}${equals}${within}`;
    });
}
