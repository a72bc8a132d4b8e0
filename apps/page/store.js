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

/** {all, put, remove, settings, saveSettings}; `lasting` is false where nothing can be kept. */
export async function openStore() {
  try {
    const db = await open();
    const store = (name, mode = "readonly") => db.transaction(name, mode).objectStore(name);
    return {
      lasting: true,
      all: () => done(store("conversations").getAll()),
      put: (conversation) => done(store("conversations", "readwrite").put(conversation)),
      remove: (id) => done(store("conversations", "readwrite").delete(id)),
      settings: async () => (await done(store("settings").get("page"))) ?? { id: "page" },
      saveSettings: (s) => done(store("settings", "readwrite").put({ ...s, id: "page" })),
    };
  } catch {
    const kept = new Map();
    return { lasting: false, all: async () => [...kept.values()], put: async (c) => kept.set(c.id, c), remove: async (id) => kept.delete(id), settings: async () => ({ id: "page" }), saveSettings: async () => {} };
  }
}
