/**
 * Redacts one value, with its quotes, of a setting of that name; gives it back as it is when the name is innocent.
 */
export type RedactNamed = (key: string, raw: string) => string;

const quoted = `"(?:[^"\\\\]|\\\\.)*"|'(?:[^'\\\\]|\\\\.)*'`;

/** `"password": "x"`, `'password' => 'x'` */
const quotedPair = new RegExp(`((["'])([A-Za-z_][\\w.-]*)\\2\\s*(?::|=>|,)\\s*)(${quoted})`, 'g');
/** `\"password\": \"x\"`: JSON in a string. */
const escapedPair = /((?<!\\)(\\{1,7}")([A-Za-z_][\w.-]*)\2\s*:\s*\2)((?:(?!\\{0,7}").)*)/g;
/** `{ password: 'x', port: 80 }` */
const barePair = new RegExp(
  `((?<!\\$)[{,(]\\s*([A-Za-z_][\\w.-]*)\\s*:)(\\s*(?:${quoted})|\\s+[^\\s,{}"'$[\\]]+)`,
  'g',
);
/** `$http_x_token != "x"` of nginx and code. */
const comparison = /(?<![\w$.])(\$?([A-Za-z_][\w.]*)\s*(?:[!=]==?|[!=]?~\*?)\s*)("[^"\n]*"|'[^'\n]*')/g;
/** `PASSWORD 'x'`, `IDENTIFIED BY 'x'` */
const sqlPassword = /(\b(?:PASSWORD|IDENTIFIED\s+(?:WITH\s+\w+\s+)?BY)\s+)('(?:[^']|'')*')/gi;
/** Headers set by proxies and clients: `proxy_set_header X-Api-Key x;`, `-H 'X-Api-Key: x'`. */
const header =
  /((?:header(?:_up|_down)?|-H)[\s=]+["']?([A-Za-z][\w-]*)["']?\s*:?\s*["']?)(?!(?:bearer|basic|digest|token)\s)([^\s"':;][^\s"';]*)/gi;
/** `NAME=value` inside commands, query strings, connection strings and comments; also `-eNAME=value`. */
const assignment =
  /(?:(?<![\w$-]|[\w$-]\.)|(?<=(?:^|[\s"'=])-[eD]))([A-Za-z_][\w.-]*)(\s?=\s?)(?!(?:bearer|basic|digest|token)\s|\[\s*["'])([\w.$]+[[(]["']\w+["'][\])]|"(?:[^"\\]|\\.)*"|'[^']*'|\$\{[^}]*\}|[^\s;&|,"'`<>]+)/gi;

/** Settings in the midst of a text: of JSON, code, SQL, headers, connection strings, commands. */
export function redactClauses(text: string, redact: RedactNamed): string {
  return text
    .replace(sqlPassword, (_, before: string, raw: string) => `${before}${redact('password', raw)}`)
    .replace(comparison, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(
      quotedPair,
      (_, before: string, _quote, key: string, raw: string) => `${before}${redact(key, raw)}`,
    )
    .replace(
      escapedPair,
      (_, before: string, _quote, key: string, raw: string) => `${before}${redact(key, raw)}`,
    )
    .replace(barePair, (_, before: string, key: string, raw: string) => {
      const value = raw.trimStart();
      return `${before}${raw.slice(0, raw.length - value.length)}${redact(key, value)}`;
    })
    .replace(header, (_, before: string, key: string, raw: string) => `${before}${redact(key, raw)}`)
    .replace(
      assignment,
      (_, key: string, equals: string, raw: string) => `${key}${equals}${redact(key, raw)}`,
    );
}
