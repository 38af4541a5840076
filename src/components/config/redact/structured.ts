import {
  isAlias,
  isMap,
  isPair,
  isScalar,
  isSeq,
  Lexer,
  parseAllDocuments,
  Scalar,
  type Node,
  type YAMLMap,
  type YAMLSeq,
} from 'yaml';
import { isContainerOfSecrets, namePattern, suspicionOf } from '../../../model/secret-names.ts';
import { secretParts, type SecretPart } from './commands.ts';
import { redactLine, redactLines } from './lines.ts';
import { placeholder } from './placeholder.ts';
import { redactSetting, redactText, type Redaction } from './text.ts';

/** A replacement by position, so that everything around it stays byte for byte. */
interface Edit {
  readonly start: number;
  readonly end: number;
  readonly text: string;
}

/** What surrounds a node. */
interface Enclosing {
  /** The setting's name, when there is one. */
  readonly key: string | undefined;
  /** The name of an enclosing map of secrets, such as `passwords`. */
  readonly container: string | undefined;
  /** Names of a Compose file's top-level secrets: lists of them hold no secret. */
  readonly secretNames: ReadonlySet<string>;
  /** Below `data` and `stringData` of a Kubernetes Secret, where every value is one. */
  readonly everything: boolean;
}

/**
 * YAML and JSON (which the same parser reads, JSON being YAML 1.2 but for tabs). Changed scalars become double-quoted
 * strings in place; comments go through the line rules. Undefined when the text cannot be parsed or would not be
 * afterwards: the caller then falls back to line rules. With `allSecret` every value is one, as in Home Assistant's
 * secrets.yaml.
 */
export function redactStructured(
  text: string,
  syntax: 'yaml' | 'json',
  redaction: Redaction,
  allSecret = false,
): string | undefined {
  // JSON strings hold no raw tabs, so this changes indentation only, and no position.
  const parsable = syntax === 'json' ? text.replaceAll('\t', ' ') : text;
  const documents = parse(parsable);
  if (documents === undefined) return undefined;
  const edits: Edit[] = syntax === 'yaml' ? commentEdits(text, redaction) : [];
  for (const { contents } of documents) {
    if (contents === null) continue;
    const secretNames = secretNamesOf(contents);
    const around = { key: undefined, container: undefined, secretNames, everything: allSecret };
    walk(contents, around, text, edits, redaction);
  }
  const result = applied(text, edits);
  return parse(syntax === 'json' ? result.replaceAll('\t', ' ') : result) === undefined ? undefined : result;
}

function parse(text: string): ReturnType<typeof parseAllDocuments> | undefined {
  if (isTooDeep(text)) return undefined;
  const documents = parseAllDocuments(text, { uniqueKeys: false, logLevel: 'silent', merge: false });
  if (!Array.isArray(documents)) return documents;
  return documents.every((document) => document.errors.length === 0) ? documents : undefined;
}

const depthMax = 200;

/** The parser calls itself for every bracket; nobody writes hundreds of them. */
function isTooDeep(text: string): boolean {
  let [depth, deepest] = [0, 0];
  for (let at = 0; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === '[' || char === '{') deepest = Math.max(deepest, ++depth);
    else if (char === ']' || char === '}') depth = Math.max(0, depth - 1);
  }
  return deepest > depthMax;
}

function applied(text: string, edits: Edit[]): string {
  let result = '';
  let position = 0;
  for (const edit of edits.sort((a, b) => a.start - b.start)) {
    result += text.slice(position, edit.start) + edit.text;
    position = edit.end;
  }
  return result + text.slice(position);
}

/** Comments, by the lexer: its tokens are consecutive pieces of the text, but for its own one-character marks. */
function commentEdits(text: string, redaction: Redaction): Edit[] {
  const marks: ReadonlySet<string> = new Set(['\u0002', '\u0018', '\u001f']);
  const edits: Edit[] = [];
  let position = 0;
  let scalarNext = false;
  for (const token of new Lexer().lex(text)) {
    if (marks.has(token)) {
      scalarNext = token === '\u001f';
      continue;
    }
    if (token.startsWith('#') && !scalarNext) {
      const shown = redactLine(token, redaction);
      if (shown !== token) edits.push({ start: position, end: position + token.length, text: shown });
    }
    scalarNext = false;
    position += token.length;
  }
  return edits;
}

function secretNamesOf(contents: Node): ReadonlySet<string> {
  if (!isMap(contents)) return new Set();
  const secrets = contents.get('secrets');
  return new Set(isMap(secrets) ? secrets.items.map((item) => keyText(item.key)) : []);
}

const keyText = (key: unknown): string => (isScalar(key) ? String(key.value) : '');

function walk(node: Node, around: Enclosing, text: string, edits: Edit[], redaction: Redaction): void {
  if (isScalar(node)) editScalar(node, around, text, edits, redaction);
  else if (isMap(node)) walkMap(node, around, text, edits, redaction);
  else if (isSeq(node)) walkList(node, around, text, edits, redaction);
}

/** A list may be a command with its arguments, some of which make the next one a secret. */
function walkList(list: YAMLSeq, around: Enclosing, text: string, edits: Edit[], redaction: Redaction): void {
  // `network_key: [1, 3, 5, 7, …]`: the bytes of a key.
  const isBytes =
    list.items.length >= 8 && list.items.every((item) => isScalar(item) && typeof item.value === 'number');
  if (isBytes && around.key !== undefined && suspicionOf(around.key) !== 'none')
    around = { ...around, key: 'password' };
  const texts = list.items.map((item) =>
    isScalar(item) && typeof item.value === 'string' ? item.value : '',
  );
  const parts = new Map<number, SecretPart>();
  for (const part of secretParts(texts)) if (!parts.has(part.word)) parts.set(part.word, part);
  for (const [position, item] of list.items.entries()) {
    const part = parts.get(position);
    if (isScalar(item) && part !== undefined && part.from > 0) editArgument(item, part, edits, redaction);
    else if (isNode(item))
      walk(item, part === undefined ? around : { ...around, key: part.key }, text, edits, redaction);
    else if (isPair(item)) throw new TypeError('A sequence cannot hold a bare pair');
  }
}

/** `-px`: an option with its password in one word. */
function editArgument(
  { value, range }: Scalar,
  { from, key }: SecretPart,
  edits: Edit[],
  redaction: Redaction,
): void {
  if (typeof value !== 'string' || range == null) return;
  const shown = value.slice(0, from) + redactSetting(key, value.slice(from), redaction);
  if (shown !== value) edits.push({ start: range[0], end: range[1], text: JSON.stringify(shown) });
}

function walkMap(map: YAMLMap, around: Enclosing, text: string, edits: Edit[], redaction: Redaction): void {
  const named = secretNameIn(map);
  const isSecret = map.get('kind') === 'Secret';
  // `type: random_password` of Terraform's state.
  const type = map.get('type');
  if (typeof type === 'string' && /^[a-z]+[_-][a-z]+$/.test(type) && suspicionOf(type) === 'always')
    around = { ...around, container: type };
  const isWebKey = typeof map.get('kty') === 'string';
  for (const { key, value } of map.items) {
    const name = keyText(key);
    if (isScalar(key)) editKey(key, edits, redaction);
    if (!isNode(value) || isAlias(value)) continue;
    const everything = around.everything || (isSecret && /^(?:data|stringData)$/.test(name));
    // Of a JSON Web Key the public half, `n`, `e`, `x` and `y`, looks as random (RFC 7518, section 6).
    if (isWebKey && !/^(?:d|p|q|dp|dq|qi|k|oth)$/.test(name)) continue;
    const inner =
      everything || isWebKey ? { key: 'password', everything: true } : enclosing(name, named, around);
    walk(value, { ...around, ...inner }, text, edits, redaction);
  }
}

const isNode = (value: unknown): value is Node =>
  isScalar(value) || isMap(value) || isSeq(value) || isAlias(value);

/** `{ name: DB_PASSWORD, value: x }`, as in Kubernetes: the map names the setting itself. */
function secretNameIn(map: YAMLMap): string | undefined {
  for (const label of ['name', 'key', 'Name', 'Key']) {
    const name = map.get(label);
    if (typeof name === 'string' && suspicionOf(name) !== 'none') return name;
  }
  return undefined;
}

const holdsSecrets = (container: string | undefined): boolean =>
  container !== undefined && suspicionOf(container) === 'always';

function enclosing(
  name: string,
  named: string | undefined,
  around: Enclosing,
): Pick<Enclosing, 'key' | 'container'> {
  if (named !== undefined && /^(?:value|default|default_?value)$/i.test(name))
    return { key: named, container: undefined };
  if (around.key !== undefined && isContainerOfSecrets.byHost(around.key, name))
    return { key: 'password', container: undefined };
  // `secretKeyRef: { name, key }` and the like name a secret, they do not hold it.
  if (/Ref$|_ref$/.test(around.container ?? '')) return { key: undefined, container: around.container };
  if (/Ref$|_ref$/.test(name)) return { key: undefined, container: name };
  // Levels of Terraform's state that only structure it.
  if (around.container !== undefined && /^(?:instances|attributes|values)$/.test(name))
    return { key: around.container, container: around.container };
  const own =
    suspicionOf(name) === 'always' || (suspicionOf(name) === 'likely' && !holdsSecrets(around.container));
  const inherited = !own && around.container !== undefined && !isContainerOfSecrets.describes(name);
  const key = inherited ? around.container : name;
  if (isContainerOfSecrets.byName(name)) return { key, container: name };
  return { key, container: inherited ? around.container : undefined };
}

function editKey(key: Scalar, edits: Edit[], redaction: Redaction): void {
  if (typeof key.value !== 'string' || key.range == null) return;
  const shown = redactText(key.value, redaction);
  if (shown !== key.value)
    edits.push({ start: key.range[0], end: key.range[1], text: JSON.stringify(shown) });
}

function editScalar(
  node: Scalar,
  around: Enclosing,
  text: string,
  edits: Edit[],
  redaction: Redaction,
): void {
  if (node.range == null || node.value === null) return;
  const [start, end] = node.range;
  const source = text.slice(start, end);
  const value = typeof node.value === 'string' ? node.value : source;
  if (around.key === 'secrets' && around.secretNames.has(value)) return;
  // Home Assistant's `password: !secret mqtt_password` names one.
  if (node.tag === '!secret' || node.tag === '!env_var' || node.tag === '!ENV') return;
  if (node.tag === '!vault') around = { ...around, key: 'password' };
  if (node.type === Scalar.BLOCK_LITERAL || node.type === Scalar.BLOCK_FOLDED) {
    const shown = redactBlock(source, value, around.key, redaction);
    if (shown !== source) edits.push({ start, end, text: shown });
    return;
  }
  const shown = redactScalar(around.key, value, redaction);
  if (shown !== value) edits.push({ start, end, text: JSON.stringify(shown) });
}

/** Redacts a text that is a JSON object or array as such; undefined when it is none. */
export function redactJson(text: string, redaction: Redaction): string | undefined {
  if (!/^\s*[{[]/.test(text)) return undefined;
  try {
    JSON.parse(text);
  } catch {
    return undefined;
  }
  return redactStructured(text, 'json', redaction);
}

const assigned = new RegExp(`^(-{0,2}${namePattern})=(.+)$`, 'su');

function redactScalar(key: string | undefined, value: string, redaction: Redaction): string {
  const json = key === undefined || suspicionOf(key) === 'none' ? redactJson(value, redaction) : undefined;
  if (json !== undefined) return json;
  const own = assigned.exec(value);
  const [, name = '', rest = ''] = own ?? [];
  if (suspicionOf(name) === 'none' || (key !== undefined && suspicionOf(key) !== 'none'))
    return redactSetting(key ?? '', value, redaction);
  return `${name}=${redactSetting(name, rest, redaction)}`;
}

/** Block scalars are raw text: a secret one becomes a quoted string, others are redacted line by line. */
function redactBlock(source: string, value: string, key: string | undefined, redaction: Redaction): string {
  if (key !== undefined && suspicionOf(key) !== 'none') {
    const shown = redactSetting(key, value.trimEnd(), redaction);
    if (shown === placeholder) return `${JSON.stringify(placeholder)}\n`;
  }
  const header = source.indexOf('\n') + 1;
  return source.slice(0, header) + redactLines('', source.slice(header), redaction);
}
