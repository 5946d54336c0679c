// What the provider of server.mjs remembers: in memory, so that tests may look into it and a rotation of keys keeps it.
// Clients are not kept: they are read from the setup whenever they are needed.

export class Store {
  #kept = new Map();
  #clients;

  // `clients` gives the metadata of a client by its id.
  constructor(clients) {
    this.#clients = clients;
  }

  // What oidc-provider calls an adapter, for one kind of thing.
  adapter(kind) {
    const key = (id) => `${kind}:${id}`;
    const first = (matches) => this.#all(kind).find(matches);
    return {
      upsert: async (id, payload, expiresIn) => {
        const expiresAt = expiresIn ? Date.now() + expiresIn * 1000 : Infinity;
        this.#kept.set(key(id), { kind, payload, expiresAt });
      },
      find: async (id) => (kind === 'Client' ? this.#clients(id) : this.#living(key(id))),
      findByUid: async (uid) => first((payload) => payload.uid === uid),
      findByUserCode: async (code) => first((payload) => payload.userCode === code),
      consume: async (id) => {
        this.#living(key(id)).consumed = Math.floor(Date.now() / 1000);
      },
      destroy: async (id) => {
        this.#kept.delete(key(id));
      },
      revokeByGrantId: async (grantId) => {
        for (const [id, { payload }] of this.#kept) {
          if (payload.grantId === grantId) this.#kept.delete(id);
        }
      },
    };
  }

  // The sessions in which a person is signed in.
  sessionsOf(sub) {
    return this.#all('Session').filter((session) => session.accountId === sub);
  }

  #living(key) {
    const kept = this.#kept.get(key);
    return kept && kept.expiresAt > Date.now() ? kept.payload : undefined;
  }

  #all(kind) {
    return [...this.#kept].filter(([, kept]) => kept.kind === kind).map(([key]) => this.#living(key)).filter(Boolean);
  }
}
