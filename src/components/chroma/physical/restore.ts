import { createWriteStream } from 'node:fs';
import { chmod, chown, lchown, lstat, mkdir, open, rm, symlink, utimes } from 'node:fs/promises';
