import { basename } from 'node:path/posix';
import type { Dialect } from './references.ts';

/** How a file is read. */
type Syntax = 'env' | 'yaml' | 'json' | 'lines';

/** A name without the endings of samples and backups: `docker-compose.yml.example` is read as `docker-compose.yml`. */
export const plainName = (name: string): string =>
  name.replace(/(?:\.(?:example|sample|dist|bak|backup|old|orig|save|template|tmpl|tpl|j2|default)|~)$/i, '');

/** How a file is read, judged by its name, and for a name without an ending by its text. */
export function syntaxOf(path: string, text = ''): Syntax {
  const base = basename(plainName(path)).toLowerCase();
  if (/(?:^|[.\-_])env(?:\.[\w.-]+)?$|\.env$/.test(base) && !/\.(?:ya?ml|json|toml)$/.test(base))
    return 'env';
  if (/\.ya?ml$/.test(base)) return 'yaml';
  if (/\.(?:json[c5]?|tfstate|ipynb|webmanifest)$/.test(base)) return 'json';
  if (/.\.[a-z]\w*$/.test(base) && !/\.(?:conf|config|cfg)$/.test(base)) return 'lines';
  if (/^\s*\{\s*["}]/.test(text)) return 'json';
  return looksLikeYaml(text) ? 'yaml' : 'lines';
}

/** Most lines are keys with a colon or list items, and none is a setting of another syntax. */
function looksLikeYaml(text: string): boolean {
  const lines = text
    .slice(0, 20_000)
    .split('\n')
    .filter((line) => /^\s*[^\s#]/.test(line))
    .slice(0, 200);
  if (!lines.some((line) => /^(?:---\s*$|[\w.-]+:\s*$)/.test(line))) return false;
  const fitting = lines.filter((line) => /^\s*(?:- )?["']?[\w./-]+["']?:(?:\s|$)|^\s*-\s|^---/.test(line));
  return fitting.length * 10 >= lines.length * 8;
}

const shellName =
  /\.(?:sh|bash|zsh|ksh|fish|bat|ps1)$|^(?:\.?(?:bashrc|zshrc|profile)|crontab|dockerfile.*|containerfile|makefile|justfile)$/i;
const codeName = /\.(?:py|js|mjs|cjs|ts|rb|php|go|rs|java|kt|lua|pl|cs|groovy|gradle|tf|hcl|nix|inc)$/i;

/** Whether the lines of a file are commands, with words after a value. */
export const isShell = (name: string, text: string): boolean =>
  text.startsWith('#!') || shellName.test(basename(name));

/** What a file's syntax expands. */
export function dialectOf(name: string, text: string): Dialect {
  if (isShell(name, text)) return 'shell';
  if (codeName.test(basename(name))) return 'code';
  const syntax = syntaxOf(name, text);
  if (syntax !== 'lines') return syntax;
  // nginx, Apache, Caddy: `$name` is a variable there.
  return /nginx|caddy|apache|httpd|\.vhost$|sites-/i.test(name) ||
    /^\s*(?:server|location|upstream|http)\b[^\n]{0,200}\{/m.test(text)
    ? 'variables'
    : 'plain';
}
