// Locks of bgfiles in a browser. An ES module; it also sets `window.LockTokens` (a client) and
// `window.lock_tokens` (the classes), and then dispatches `lock_tokens.clientready`.
//
//     <script type="module" src="/lock_tokens/lock_tokens.js"></script>
//     document.addEventListener("lock_tokens.clientready", () => {
//       LockTokens.hold_lock("cms", "page", "home", (token) => { … });
//     });
//
// Options of that client: `window.lock_tokens_options`, or the query of the module's URL. Every
// method takes a callback as its last argument and returns a promise of the same value: null, or
// false, when it did not work; `client.error` then says why.

/** A lock is renewed when half of its time is over, and every five minutes; in milliseconds. */
const LONGEST = 300_000;
const SHORTEST = 500;
/** How often it is looked whether the machine slept: a timer does not count that time. */
const TICK = 15_000;
/** How long an answer may take. */
const PATIENCE = 10_000;
/** Waits between tries when the server does not answer. */
const AGAIN = [1000, 2000, 4000, 8000, 15_000, 30_000];

/** A token of a lock. */
export class Token {
  constructor(app_label, model, object_id, answer) {
    this.app_label = app_label;
    this.model = model;
    this.object_id = object_id;
    this.update(answer);
  }

  /** Takes the server's word. How much time is left is counted from now, by the server's count:
   * this machine's clock may be wrong, and `expires` may be written in any way. */
  update(answer) {
    this.token_ = answer.token;
    this.fence = answer.fence;
    this.owner = answer.owner;
    const told = Number(answer.expires_in) * 1000;
    const left = Number.isFinite(told) ? told : Date.parse(answer.expires) - Date.now();
    this.left_ = Number.isFinite(left) ? left : 0;
    this.expiration_date_ = new Date(Date.now() + this.left_);
  }

  get_token() {
    return this.token_;
  }

  get_expiration_date() {
    return this.expiration_date_;
  }
}

/** What tabs of one browser have in common. */
function browser_session() {
  const random = () => crypto.getRandomValues(new Uint32Array(4)).join("-");
  const key = "lock_tokens.session";
  try {
    const known = localStorage.getItem(key);
    if (known) return known;
    localStorage.setItem(key, `browser-${random()}`);
    return localStorage.getItem(key);
  } catch {
    return `page-${random()}`;
  }
}

/** The calls themselves. */
export class APIClient {
  constructor(options) {
    this.base_api_url = options.base_api_url.replace(/\/*$/, "/");
    this.csrf_token = options.csrf_token || null;
    this.csrf_header_name = options.csrf_header_name || "X-CSRFToken";
    this.headers = options.headers || {};
    this.session = options.lock_session || browser_session();
  }

  /** Status and body; status 0 when nobody answered. */
  async call(parts, method, body, leaving = false) {
    const headers = { Accept: "application/json", "Lock-Session": this.session, ...this.headers };
    if (this.csrf_token && method !== "GET") headers[this.csrf_header_name] = this.csrf_token;
    if (body) headers["Content-Type"] = "application/json";
    const url = this.base_api_url + parts.map(encodeURIComponent).join("/") + "/";
    try {
      const response = await fetch(url, {
        method,
        headers,
        body: body && JSON.stringify(body),
        credentials: "same-origin",
        cache: "no-store",
        keepalive: leaving,
        signal: leaving ? undefined : AbortSignal.timeout(PATIENCE),
      });
      const text = await response.text();
      let answer = {};
      try {
        answer = text ? JSON.parse(text) : {};
      } catch {
        // A page of a server in between.
      }
      return { ...answer, status: response.status };
    } catch (error) {
      return { status: 0, detail: String(error) };
    }
  }
}

/** Locks, and what this page holds. */
export class LockTokens {
  constructor(options = {}) {
    const base_api_url = options.base_api_url || "/lock_tokens/";
    this.api_client_ = new APIClient({ ...options, base_api_url });
    this.with_alerts_ = options.with_alerts || false;
    this.ask_ = { ttl: options.ttl, reason: options.reason };
    this.registry_ = new Map();
    /** Why the last call did not work: status, and who has the lock. */
    this.error = null;
    this.queues_ = new Map();
    if (String(options.release_on_pagehide) !== "false") {
      addEventListener("pagehide", () => this.leave_());
    }
    const back = () => this.wake_();
    addEventListener("pageshow", (event) => event.persisted && this.return_());
    addEventListener("online", back);
    addEventListener("focus", back);
    document.addEventListener("visibilitychange", () => document.hidden || this.wake_());
    document.addEventListener("resume", back);
  }

  /** Locks; a token, or null when somebody else has it. */
  lock(app_label, model, object_id, callback) {
    const parts = [app_label, model, object_id];
    return this.queue_(parts, async () => {
      const answer = await this.lock_(parts);
      const token = this.registry_.get(key_of(parts))?.token;
      const value = answer.status === 201 ? token : null;
      return this.done_(value, answer, "Could not lock object!", callback);
    });
  }

  /** Takes over a token that the page was made with. */
  register_existing_lock_token(app_label, model, object_id, token_string, callback) {
    const parts = [app_label, model, object_id];
    return this.queue_(parts, async () => {
      const answer = await this.api_client_.call([...parts, token_string], "GET");
      const token = answer.status === 200 ? this.add_(parts, answer) : null;
      return this.done_(token, answer, "Could not register existing token", callback);
    });
  }

  /** Renews; the token, or null. */
  renew_lock(app_label, model, object_id, callback) {
    const parts = [app_label, model, object_id];
    return this.queue_(parts, async () => {
      const held = this.registry_.get(key_of(parts));
      if (!held) return this.done_(null, { status: 0 }, NOTHING, callback);
      const answer = await this.renew_(held);
      const token = answer.status === 200 ? held.token : null;
      return this.done_(token, answer, "Could not renew lock on object!", callback);
    });
  }

  /** Lets go; whether it did. */
  unlock(app_label, model, object_id, callback) {
    const parts = [app_label, model, object_id];
    return this.queue_(parts, async () => {
      const key = key_of(parts);
      const held = this.registry_.get(key);
      if (!held) return this.done_(false, { status: 0 }, NOTHING, callback);
      clearTimeout(held.timer);
      this.registry_.delete(key);
      const answer = await this.api_client_.call([...parts, held.token.get_token()], "DELETE");
      if (is_trouble(answer.status)) {
        this.registry_.set(key, held);
        if (held.holding) this.plan_(held);
      }
      return this.done_(answer.status === 204, answer, "Could not unlock object!", callback);
    });
  }

  /** Locks, if this page has no token yet, and renews until it lets go or the lock is lost (then
   * `lock_tokens.lost` is dispatched, with the token). */
  hold_lock(app_label, model, object_id, callback) {
    const parts = [app_label, model, object_id];
    return this.queue_(parts, async () => {
      const known = this.registry_.has(key_of(parts));
      const answer = known ? { status: 201 } : await this.lock_(parts);
      const held = this.registry_.get(key_of(parts));
      if (answer.status !== 201) {
        return this.done_(null, answer, "Could not lock object!", callback);
      }
      held.holding = true;
      this.plan_(held);
      return this.done_(held.token, answer, "", callback);
    });
  }

  /** Lets go of everything. */
  async clear_all_locks(callback) {
    const all = [...this.registry_.values()];
    await Promise.all(all.map((held) => this.unlock(...held.parts)));
    if (callback) callback();
  }

  /** What is done with one thing is done one after the other. */
  queue_(parts, work) {
    const key = key_of(parts);
    const before = this.queues_.get(key) ?? Promise.resolve();
    const now = before.then(work, work);
    this.queues_.set(key, now);
    const clear = () => this.queues_.get(key) === now && this.queues_.delete(key);
    now.then(clear, clear);
    return now;
  }

  async lock_(parts) {
    const answer = await this.api_client_.call(parts, "POST", this.ask_);
    if (answer.status === 201) this.add_(parts, answer);
    return answer;
  }

  /** One page needs one token: the server would count another as somebody who stays. */
  add_(parts, answer) {
    const held = this.registry_.get(key_of(parts));
    if (!held) {
      const token = new Token(...parts, answer);
      this.registry_.set(key_of(parts), { parts, token, holding: false, timer: null, tries: 0 });
      return token;
    }
    const before = held.token.get_token();
    held.token.update(answer);
    if (before !== answer.token) this.api_client_.call([...parts, before], "DELETE");
    if (held.holding) this.plan_(held);
    return held.token;
  }

  async renew_(held) {
    const answer = await this.api_client_.call([...held.parts, held.token.get_token()], "PATCH");
    if (answer.status === 200) {
      held.token.update(answer);
      held.tries = 0;
      if (held.holding) this.plan_(held);
    }
    return answer;
  }

  /** Renews later: when half of the time is over, unless said otherwise. */
  plan_(held, delay = Math.min(Math.max(held.token.left_ / 2, SHORTEST), LONGEST)) {
    held.due = performance.now() + delay;
    this.tick_(held);
  }

  tick_(held) {
    clearTimeout(held.timer);
    const pause = Math.min(Math.max(held.due - performance.now(), 0), TICK);
    const began = Date.now();
    held.timer = setTimeout(() => {
      const slept = Math.abs(Date.now() - began - pause) > TICK;
      if (slept || performance.now() >= held.due) this.keep_(held);
      else this.tick_(held);
    }, pause);
  }

  /** Renews what is held, come what may: an expired token counts until somebody takes the lock. */
  keep_(held) {
    if (held.busy) return;
    held.busy = true;
    this.queue_(held.parts, async () => {
      held.busy = false;
      const key = key_of(held.parts);
      if (!held.holding || this.registry_.get(key) !== held) return;
      let answer = await this.renew_(held);
      if (answer.status === 404) {
        // Expired and swept: it is free, unless somebody was faster.
        const before = held.token.get_token();
        answer = await this.lock_(held.parts);
        if (held.token.get_token() !== before) {
          // Somebody may have had it meanwhile.
          emit_event("relocked", held.token);
          return;
        }
      }
      if (answer.status === 200) return;
      if (is_trouble(answer.status)) {
        this.plan_(held, AGAIN[Math.min(held.tries++, AGAIN.length - 1)]);
        return;
      }
      clearTimeout(held.timer);
      this.registry_.delete(key);
      this.error = answer;
      emit_event("lost", held.token);
      if (this.with_alerts_) alert("The lock on this object was lost!");
    });
  }

  /** After sleep timers are late, and what they waited for is past. */
  wake_() {
    for (const held of this.registry_.values()) if (held.holding) this.keep_(held);
  }

  leave_() {
    for (const held of this.registry_.values()) {
      clearTimeout(held.timer);
      held.left = true;
      this.api_client_.call([...held.parts, held.token.get_token()], "DELETE", null, true);
    }
  }

  /** The page was kept by the browser and is shown again: what was held is locked anew. */
  return_() {
    for (const [key, held] of [...this.registry_]) {
      if (!held.left) continue;
      this.registry_.delete(key);
      const lost = () => emit_event("lost", held.token);
      if (held.holding) this.hold_lock(...held.parts).then((token) => token || lost());
      else lost();
    }
  }

  done_(value, answer, message, callback) {
    this.error = value ? null : answer;
    if (!value) {
      console.error(message, answer.status, answer.detail ?? answer.owner ?? "");
      if (this.with_alerts_) alert(message);
    }
    if (callback) callback(value);
    return value;
  }
}

const NOTHING = "No lock token registered for this object!";

/** Whether trying again may help: nobody answered, or the server was busy or broken. */
function is_trouble(status) {
  return status === 0 || status === 408 || status === 429 || status >= 500;
}

function key_of(parts) {
  return parts.map(encodeURIComponent).join("/");
}

export function emit_event(name, detail) {
  document.dispatchEvent(new CustomEvent(`lock_tokens.${name}`, { bubbles: true, detail }));
}

const here = new URL(import.meta.url);
const options = {
  base_api_url: new URL(".", here).pathname,
  ...Object.fromEntries(here.searchParams),
  ...window.lock_tokens_options,
};
options.with_alerts = options.with_alerts === true || options.with_alerts === "true";

/** The client that `window.LockTokens` is. */
const client = new LockTokens(options);
export default client;

window.lock_tokens = { APIClient, LockTokens, Token, emit_event };
window.LockTokens = client;
emit_event("clientready", client);
