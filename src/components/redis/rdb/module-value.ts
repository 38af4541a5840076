import type { RdbStrings } from './strings.ts';

/** `RDB_MODULE_OPCODE_*` in `src/rdb.h`: every value of a module is a sequence of these. */
const opcodes = { end: 0, signed: 1, unsigned: 2, float: 3, double: 4, string: 5 } as const;

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
const nameLetters = 9;

/** The name of a module's type, such as `vectorset`: nine letters of six bits, then ten bits of version. */
export async function moduleType(strings: RdbStrings): Promise<string> {
  let id = (await strings.length64()) >> 10n;
  let name = '';
  for (let i = 0; i < nameLetters; i++, id >>= 6n) name = (letters[Number(id & 63n)] ?? '') + name;
  return name;
}

/** Passes over what follows a module's type. Only the module knows what it means. */
export async function skipModuleValue(strings: RdbStrings): Promise<void> {
  for (;;) {
    const opcode = await strings.length();
    switch (opcode) {
      case opcodes.end:
        return;
      case opcodes.signed:
      case opcodes.unsigned:
        await strings.length64();
        break;
      case opcodes.float:
        await pass(strings, 4);
        break;
      case opcodes.double:
        await pass(strings, 8);
        break;
      case opcodes.string:
        await strings.skip();
        break;
      default:
        throw strings.damaged(`a value of a module has a part of kind ${opcode}`);
    }
  }
}

async function pass({ reader }: RdbStrings, sizeBytes: number): Promise<void> {
  await reader.need(sizeBytes);
  reader.take(sizeBytes);
}
