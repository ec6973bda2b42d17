// Types of lock_tokens.js.

export interface Options {
  /** Where the API is; the module's own folder when left out. */
  base_api_url?: string;
  csrf_token?: string;
  /** `X-CSRFToken` when left out. */
  csrf_header_name?: string;
  /** Say it in an alert when something did not work. */
  with_alerts?: boolean;
  /** More headers, e.g. `Authorization`. */
  headers?: Record<string, string>;
  /** What tabs that share locks have in common, 16 to 100 characters; one of the browser's when left out. */
  lock_session?: string;
  /** Seconds that locks last; the server's default when left out. */
  ttl?: number;
  /** Why, for others to see. */
  reason?: string;
  /** Whether locks end with the page; true when left out. */
  release_on_pagehide?: boolean;
}

/** Why a call did not work. */
export interface Refusal {
  /** HTTP status; 0 when nobody answered. */
  status: number;
  detail?: string;
  /** Who has the lock, since when, until when, and why. */
  owner?: string | null;
  since?: string;
  until?: string;
  reason?: string;
}

export class Token {
  readonly app_label: string;
  readonly model: string;
  readonly object_id: string | number;
  /** Number of this acquisition: send it along with what you write. */
  readonly fence: number;
  readonly owner: string | null;
  get_token(): string;
  get_expiration_date(): Date;
}

type Id = string | number;
type Then<T> = (value: T) => void;

export class LockTokens {
  constructor(options?: Options);
  /** Why the last call did not work. */
  error: Refusal | null;
  lock(app_label: string, model: string, object_id: Id, callback?: Then<Token | null>): Promise<Token | null>;
  register_existing_lock_token(app_label: string, model: string, object_id: Id, token: string, callback?: Then<Token | null>): Promise<Token | null>;
  renew_lock(app_label: string, model: string, object_id: Id, callback?: Then<Token | null>): Promise<Token | null>;
  unlock(app_label: string, model: string, object_id: Id, callback?: Then<boolean>): Promise<boolean>;
  hold_lock(app_label: string, model: string, object_id: Id, callback?: Then<Token | null>): Promise<Token | null>;
  clear_all_locks(callback?: () => void): Promise<void>;
}

/** The calls themselves. */
export class APIClient {
  constructor(options: Options & { base_api_url: string });
  call(parts: Id[], method: string, body?: object, leaving?: boolean): Promise<Refusal & Record<string, unknown>>;
}

/** Dispatches `lock_tokens.NAME` on the document. */
export function emit_event(name: string, detail?: unknown): void;

declare const client: LockTokens;
export default client;

declare global {
  interface Window {
    LockTokens: LockTokens;
    lock_tokens_options?: Options;
    lock_tokens: {
      APIClient: typeof APIClient;
      LockTokens: typeof LockTokens;
      Token: typeof Token;
      emit_event: typeof emit_event;
    };
  }
  interface DocumentEventMap {
    "lock_tokens.clientready": CustomEvent<LockTokens>;
    "lock_tokens.lost": CustomEvent<Token>;
    "lock_tokens.relocked": CustomEvent<Token>;
  }
}
