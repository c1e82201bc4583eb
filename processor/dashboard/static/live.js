// What the server tells, kept: the fleet, the pipeline's health, how much is rejected. Views listen for what changes.

class Live extends EventTarget {
  fleet = new Map(); // rows by address
  health = null;
  rejected = null;
  skew = 0; // the server's clock against ours, ms
  lost = false; // the connection
  complete = false; // the whole fleet was told

  now() {
    return Date.now() + this.skew;
  }

  start() {
    const source = new EventSource("/api/events");
    source.addEventListener("open", () => {
      this.#tell("connection", { state: "live", again: this.lost });
      this.lost = false;
    });
    source.addEventListener("error", () => {
      this.lost = true;
      this.#tell("connection", { state: "lost" });
      if (source.readyState === EventSource.CLOSED) setTimeout(() => this.start(), 3000);
    });
    const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    on("fleet", (found) => {
      this.skew = found.now - Date.now();
      this.fleet = new Map(found.rows.map((row) => [row.device, row]));
      this.complete = true;
      this.#tell("fleet", { devices: null });
    });
    on("devices", (found) => {
      this.skew = found.now - Date.now();
      for (const row of found.rows) this.fleet.set(row.device, row);
      for (const device of found.gone) this.fleet.delete(device);
      this.#tell("fleet", { devices: found.rows.map((row) => row.device), gone: found.gone });
    });
    on("health", (found) => this.#tell("health", (this.health = found)));
    on("rejected", (found) => this.#tell("rejected", (this.rejected = found)));
    on("trouble", (found) => this.#tell("trouble", found));
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}

export const live = new Live();

/** Ask the server; raises an Error with its words where it refuses. */
export async function ask(path, { signal, body } = {}) {
  const options = body ? { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" } } : {};
  const answer = await fetch(path, { signal, ...options });
  if (answer.ok) return answer.json();
  let message = `${answer.status} ${answer.statusText}`;
  try {
    message = (await answer.json()).error;
  } catch {
    // no JSON: the status says it
  }
  throw new Error(message);
}
