// Conversations and settings, kept in this browser (IndexedDB) and nowhere else. A browser that keeps nothing gets a
// store that lasts as long as the page.

const open = () =>
  new Promise((resolve, reject) => {
    const request = indexedDB.open("llorch", 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("settings", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

const keyOf = (m) => `${m.role} ${m.at}`;
/** What a tab has of a conversation: its messages ever seen, and the fields that another tab may change. */
class Known {
  constructor() {
    this.messages = new Set();
  }
  note(c) {
    for (const m of c.messages) this.messages.add(keyOf(m));
    this.fields = JSON.stringify([c.title, c.model, c.parameters]);
  }
}
/**
 * A conversation as this tab has it, with what another tab has put into the one that is kept since this tab read it: messages
 * that this tab never saw, answers that ended there and not here, and a title, model and parameters that were changed there
 * alone. What this tab saw and took out stays out.
 */
export function merged(kept, mine, known) {
  if (!kept) return mine;
  const theirs = new Map(kept.messages.map((m) => [keyOf(m), m]));
  const own = mine.messages.map((m) => {
    const other = theirs.get(keyOf(m));
    return other?.state === "done" && ["running", "failed"].includes(m.state) ? other : m;
  });
  const added = kept.messages.filter((m) => m.at !== undefined && !known.messages.has(keyOf(m)));
  const messages = added.length ? [...own, ...added].sort((a, b) => (a.at ?? 0) - (b.at ?? 0)) : own;
  const unchanged = JSON.stringify([mine.title, mine.model, mine.parameters]) === known.fields;
  const { title, model, parameters } = unchanged ? kept : mine;
  return { ...mine, title, model, parameters, messages };
}

/** {all, put, remove, settings, saveSettings}; `lasting` is false where nothing can be kept. */
export async function openStore() {
  try {
    const db = await open(), seen = new Map();  // id of a conversation -> Known
    const store = (name, mode = "readonly") => db.transaction(name, mode).objectStore(name);
    const knownOf = (id) => seen.get(id) ?? seen.set(id, new Known()).get(id);
    return {
      lasting: true,
      async all() {
        const list = await done(store("conversations").getAll());
        for (const c of list) knownOf(c.id).note(c);
        return list;
      },
      /**
       * Other tabs write the same conversations: it is read, merged and written in one transaction. False: another tab has
       * deleted it, and it stays deleted.
       */
      put: (c) =>
        new Promise((resolve, reject) => {
          const known = knownOf(c.id), place = store("conversations", "readwrite"), kept = place.get(c.id);
          let lives = true;
          for (const m of c.messages) known.messages.add(keyOf(m));
          kept.onsuccess = () => {
            if (!(lives = kept.result || known.fields === undefined)) return;
            place.put(merged(kept.result, c, known));
            known.note(c);
          };
          place.transaction.oncomplete = () => resolve(Boolean(lives));
          place.transaction.onabort = () => reject(place.transaction.error);
        }),
      remove(id) {
        seen.delete(id);  // this tab may begin anew with it
        return done(store("conversations", "readwrite").delete(id));
      },
      settings: async () => (await done(store("settings").get("page"))) ?? { id: "page" },
      saveSettings: (s) => done(store("settings", "readwrite").put({ ...s, id: "page" })),
    };
  } catch {
    const kept = new Map();
    return { lasting: false, all: async () => [...kept.values()], put: async (c) => Boolean(kept.set(c.id, c)), remove: async (id) => kept.delete(id), settings: async () => ({ id: "page" }), saveSettings: async () => {} };
  }
}
