import { z } from 'zod';
import { TarsError } from '../../../model/errors.ts';
import { decodeMetadata, encodeMetadata, type ChromaRecord } from '../record.ts';
import { itemTexts, memberTexts } from './json-members.ts';
import { parseRecords } from './record-json.ts';

/** A database of a tenant. */
export interface DatabasePlace {
  readonly tenant: string;
  readonly database: string;
}

/** A collection as the server describes it. */
export interface CollectionInfo extends DatabasePlace {
  readonly id: string;
  readonly name: string;
  /** Canonical JSON (see `encodeMetadata`); `null` when it has none. */
  readonly metadata: string | null;
  /** The server's own JSON texts, uninterpreted. */
  readonly configuration: string | null;
  readonly schema: string | null;
  readonly dimension: number | null;
}

/** What a server says it takes: `/api/v2/pre-flight-checks`. */
export interface PreFlight {
  /** Records in one request to add. */
  readonly maxBatchSize: number;
  readonly base64Embeddings: boolean;
}

const preFlightSchema = z.object({
  max_batch_size: z.number().int().positive(),
  supports_base64_encoding: z.boolean().optional(),
});
const named = z.array(z.object({ name: z.string() }));
const collectionSchema = z.object({
  id: z.string(),
  name: z.string(),
  dimension: z.number().int().nullish(),
});
const idsSchema = z.object({ ids: z.array(z.string()) });
const querySchema = z.object({
  ids: z.array(z.array(z.string())).min(1),
  distances: z.array(z.array(z.number().nullable())).min(1),
});

/**
 * Reads the JSON that a server answers with. Every method throws TarsError `unsupported-version` when the text is not
 * of the form that Chroma 1.x answers in.
 */
export class ChromaAnswers {
  readonly #location: string;

  /** @param location the server's address, for messages */
  constructor(location: string) {
    this.#location = location;
  }

  version(text: string): string {
    return this.#parsed(z.string(), text);
  }

  preFlight(text: string): PreFlight {
    const answer = this.#parsed(preFlightSchema, text);
    return {
      maxBatchSize: answer.max_batch_size,
      base64Embeddings: answer.supports_base64_encoding === true,
    };
  }

  names(text: string): readonly string[] {
    return this.#parsed(named, text).map(({ name }) => name);
  }

  count(text: string): number {
    return this.#parsed(z.number().int(), text);
  }

  ids(text: string): readonly string[] {
    return this.#parsed(idsSchema, text).ids;
  }

  records(text: string): readonly ChromaRecord[] {
    return this.#understood(() => parseRecords(text));
  }

  /** What a query with one vector found. */
  nearest(text: string): readonly { readonly id: string; readonly distance: number | null }[] {
    const { ids, distances } = this.#parsed(querySchema, text);
    return (ids[0] ?? []).map((id, i) => ({ id, distance: distances[0]?.[i] ?? null }));
  }

  collections(text: string, place: DatabasePlace): readonly CollectionInfo[] {
    return this.#understood(() => itemTexts(text)).map((item) => this.collection(item, place));
  }

  /** One collection of that database; its JSON members are kept as the server spells them. */
  collection(text: string, { tenant, database }: DatabasePlace): CollectionInfo {
    return this.#understood(() => {
      const { id, name, dimension } = collectionSchema.parse(JSON.parse(text));
      const members = memberTexts(text);
      const orNull = (key: string): string | null => {
        const member = members.get(key);
        return member === undefined || member === 'null' ? null : member;
      };
      const metadata = orNull('metadata');
      return {
        tenant,
        database,
        id,
        name,
        metadata: metadata === null ? null : encodeMetadata(decodeMetadata(metadata)),
        configuration: orNull('configuration_json'),
        schema: orNull('schema'),
        dimension: dimension ?? null,
      };
    });
  }

  #parsed<T>(schema: z.ZodType<T>, text: string): T {
    return this.#understood(() => schema.parse(JSON.parse(text)));
  }

  #understood<T>(parse: () => T): T {
    try {
      return parse();
    } catch (cause) {
      throw new TarsError(
        'unsupported-version',
        `Chroma at ${this.#location} answers in a form that tars does not know`,
        {
          hint: 'Check that the url is that of a Chroma server, and which versions this tars supports.',
          cause,
        },
      );
    }
  }
}
