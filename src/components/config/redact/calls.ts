import { Quotes, quotedLists } from './lists.ts';
import { redactQuoted, type Redaction } from './text.ts';

/** Functions that take a secret without naming it, and which of their texts it is. */
const calls: readonly { readonly name: RegExp; readonly text: number }[] = [
  { name: /\b(?:mysqli_connect|mysqli|mysql_connect|PDO)\s{0,3}\($/, text: 2 },
  {
    name: /\b(?:HTTPBasicAuth|basicAuth|basic_auth|login|authenticate|auth|set_basic_auth|setCredentials)\s{0,3}=?\s{0,3}\($/i,
    text: 1,
  },
];
/** The first text after the first comma is the secret: `jwt.sign(payload, 'x')`. */
const signing =
  /\b(?:jwt\.(?:sign|verify|encode|decode)|createHmac|createCipheriv|createSign|hmac\.new)\s{0,3}\([^,"'()]{1,200},\s{0,3}[bB]?$|\bhmac\.new\s{0,3}\(\s{0,3}[bB]?$/;

/** Passwords among the texts that a function is called with. */
export function redactCalls(line: string, redaction: Redaction): string {
  if (!line.includes('(')) return line;
  let [result, position] = ['', 0];
  const hide = (start: number, end: number): void => {
    result += line.slice(position, start) + redactQuoted('password', line.slice(start, end), redaction);
    position = end;
  };
  for (const items of quotedLists(line)) {
    const before = line.slice(Math.max(0, (items[0]?.start ?? 0) - 60), items[0]?.start);
    const item = items[calls.find(({ name }) => name.test(before))?.text ?? items.length];
    if (item !== undefined && item.start >= position) hide(item.start, item.end);
  }
  const quotes = new Quotes(line);
  for (const { index } of line.matchAll(/(?<=[,(]\s{0,3}[bB]?)["']/g)) {
    if (index < position || !signing.test(line.slice(Math.max(0, index - 260), index))) continue;
    const end = quotes.closing(index);
    if (end !== undefined) hide(index, end + 1);
  }
  return result + line.slice(position);
}
