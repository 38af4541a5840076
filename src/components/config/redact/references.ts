import { suspicionOf } from '../../../model/secret-names.ts';

/** How a file treats what looks like a variable or an expression. */
export type Dialect = 'env' | 'yaml' | 'json' | 'shell' | 'code' | 'variables' | 'log' | 'plain';

/** `${NAME}`, `$(command)`, `{{ template }}`, `<placeholder>`, `%{name}`, `!secret name`. */
const alwaysReference =
  /^(?:\$\{[\p{L}_][\p{L}\p{N}_.:-]*\}|\$\{\{[^{}]*\}\}|\$\([^()]*\)|`[^`]*`|\{\{.*\}\}|<[\w -]+>|%\(\w+\)s|%env\([\w:]+\)%|%[A-Z_][A-Z0-9_]*%|@[\w.]+@)[;,]?$/su;
const variable = /^\$(?:env:)?([A-Za-z_]\w*)[;,]?$/;
/** `os.environ["NAME"]`, `process.env.NAME` and the like, in code. */
const lookup =
  /^(?:(?:os\.)?environ(?:\.get)?|(?:os\.)?getenv|process\.env|Deno\.env\.get|import\.meta\.env|env|ENV|\$_ENV|\$_SERVER|System\.getenv|ENV\.fetch)[.[(]["']?\w+["']?[\])]?[;,]?$/;
/** `req.body.password`, `var.db_password`, `self.token`: members of what a program has at hand. */
const member =
  /^(?:await\s+)?(?:this|self|req|request|res|ctx|context|process|args|options|opts|config|settings|params|event|body|data|user|props|cfg|var|local|module|each|secrets|Deno|import|app|\$this|\$request)(?:\??\.|->)[\w$]+(?:(?:\??\.|->)[\w$]+|\[["']?[\w-]+["']?\])*[;,]?$/;
/** In code a name without quotes is a variable, or a function that is called. */
const expression =
  /^(?:await\s+|new\s+|!)?[A-Za-z_$][\w$]*(?:(?:\??\.|->|::)[A-Za-z_$][\w$]*|\[\w*\])*(?:[;,)]*$|\()/;
/** Functions whose first text is the name of what they look up. */
export const looksUp =
  /get|env|header|config|fetch|read|find|lookup|input|prompt|require|open|param|query|argv|secret/i;

/** Whether a value takes the secret from the environment. */
export const isLookup = (value: string): boolean => lookup.test(value);

/** Whether a value only says where the secret comes from. `isLiteral` values stand in quotes that nothing expands. */
export function isReference(value: string, dialect: Dialect, isLiteral = false): boolean {
  if (isLiteral) return false;
  if (alwaysReference.test(value) || isLookup(value) || member.test(value)) return true;
  if (dialect === 'code' && expression.test(value)) return true;
  const name = variable.exec(value)?.[1];
  if (name === undefined) return false;
  if (dialect === 'shell' || dialect === 'code' || dialect === 'variables') return true;
  const isSpelledLikeOne = /^[A-Z][A-Z0-9_]*$/.test(name);
  return isSpelledLikeOne && (dialect === 'env' || dialect === 'yaml' || suspicionOf(name) !== 'none');
}
