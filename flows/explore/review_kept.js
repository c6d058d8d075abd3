// What the browser keeps between visits: who reviews, what was begun, and what the server has not yet taken.

const PREFIX = "deltavlm-review";
const RETRY_MS = 3000;

function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}

function write(key, value) {
  try {
    if (value === null) localStorage.removeItem(key);
    else localStorage.setItem(key, JSON.stringify(value));
  } catch {
    // Nothing can be kept here; what is said still goes to the server at once.
  }
}

export const readPerson = () => read(`${PREFIX}:person`) ?? "";
export const writePerson = (person) => write(`${PREFIX}:person`, person);

/** What was filled in of something that has no verdict yet. */
export class Drafts {
  constructor(title, person) {
    this.key = (item) => `${PREFIX}:${title}:${person}:${item}`;
  }

  read(item) {
    return read(this.key(item));
  }

  write(item, draft) {
    write(this.key(item), draft);
  }
}

/** What goes to the server, one after the other, until it has taken it. */
export class Outbox {
  /**
   * @param {string} title
   * @param {{send: (body: object) => Promise<object>, onTold: (told: object) => void, onProblem: (problem: object) => void}} handlers
   */
  constructor(title, handlers) {
    Object.assign(this, handlers);
    this.key = `${PREFIX}:${title}:outbox`;
    this.waiting = read(this.key) ?? [];
    this.isBusy = false;
    this.flush();
  }

  put(body) {
    const isSame = (one) => ["person", "subject", "subject_id"].every((name) => one[name] === body[name]);
    // What is on its way stays first; of what waits the last word is enough.
    this.waiting = [...this.waiting.filter((one, at) => (at === 0 && this.isBusy) || !isSame(one)), body];
    write(this.key, this.waiting);
    this.flush();
  }

  async flush() {
    if (this.isBusy) return;
    this.isBusy = true;
    let isReached = true;
    while (isReached && this.waiting.length) isReached = await this.sendFirst();
    this.isBusy = false;
    if (!isReached) setTimeout(() => this.flush(), RETRY_MS);
  }

  async sendFirst() {
    try {
      const told = await this.send(this.waiting[0]);
      this.drop();
      this.onTold(told);
      return true;
    } catch (problem) {
      // What the server will never take is told, and not sent again.
      const isRefused = problem.status >= 400 && problem.status < 500;
      if (isRefused) this.drop();
      this.onProblem(problem);
      return isRefused;
    }
  }

  /** Send all that waits at once, as the page goes away: what comes twice is known already. */
  leave() {
    for (const body of this.waiting) this.send(body).catch(() => {});
  }

  drop() {
    this.waiting = this.waiting.slice(1);
    write(this.key, this.waiting.length ? this.waiting : null);
  }
}
