// Who listens to which topic, and when the server is told.

import { Events } from "./events.js";

const isAboutConnection = ({ code }) => code === "gone" || code === "closed" || code === "protocol";

export class Topics {
  /** Those who listen, and how many subscribe right now, by topic. */
  #topics = new Map();
  #limit;
  #ask;
  /** Why there are no more events, if so. */
  #end;

  /** `ask(kind, topic, options)` sends a subscribe or unsubscribe; `kind` is "subscribe" or "unsubscribe". */
  constructor(limit, ask) {
    this.#limit = limit;
    this.#ask = ask;
  }

  /** Resolves to the events when the server has answered. */
  async subscribe(topic, options) {
    const entry = this.#topics.get(topic) ?? { listeners: new Set(), pending: 0 };
    this.#topics.set(topic, entry);
    const events = new Events(topic, this.#limit, (who) => this.#leave(who));
    entry.pending += 1;
    try {
      // No event comes before the answer, and the first may come right behind it.
      await this.#ask("subscribe", topic, options, () => {
        if (this.#end) events.end(this.#end.error);
        else entry.listeners.add(events);
      });
    } finally {
      entry.pending -= 1;
      this.#tidy(topic, entry);
    }
    return events;
  }

  async #leave(events) {
    const entry = this.#topics.get(events.topic);
    if (!entry?.listeners.delete(events)) return;
    const isLast = entry.listeners.size === 0 && entry.pending === 0;
    this.#tidy(events.topic, entry);
    if (!isLast) return;
    await this.#ask("unsubscribe", events.topic, { isForThisConnection: true }).catch((error) => {
      if (!isAboutConnection(error)) throw error; // with its connection a subscription ends anyway
    });
  }

  #tidy(topic, entry) {
    const isUnused = entry.listeners.size === 0 && entry.pending === 0;
    if (isUnused && this.#topics.get(topic) === entry) this.#topics.delete(topic);
  }

  take(event) {
    for (const listener of this.#topics.get(event.type)?.listeners ?? []) listener.push(event);
  }

  /** Subscribes anew, over another connection. Those whose topic is not to be had any more are told why. */
  renew(renewal) {
    for (const [topic, entry] of this.#topics) {
      const { listeners } = entry;
      if (listeners.size === 0) continue;
      const renewed = () => {
        for (const listener of listeners) listener.renewed(renewal);
      };
      this.#ask("subscribe", topic, { isForThisConnection: true }, renewed).catch((error) => {
        if (isAboutConnection(error)) return; // it is renewed over the next one, or there is none
        for (const listener of listeners) listener.end(error);
        listeners.clear();
        this.#tidy(topic, entry);
      });
    }
  }

  end(error) {
    this.#end = { error };
    for (const { listeners } of this.#topics.values()) {
      for (const listener of listeners) listener.end(error);
    }
    this.#topics.clear();
  }
}
