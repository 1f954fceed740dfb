// What the server is asked, and what its answers mean.

const TOKEN = "medrestore/token";
const QUICK_MS = 30_000;
const IMAGE_MS = 300_000;

/** The token of the link; it leaves the address bar, and stays in this tab. */
export function takeToken() {
  const given = location.hash.slice(1).trim();
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname);
  }
  return sessionStorage.getItem(TOKEN);
}

/** The server answered, and refused. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

/** There was no answer, or one that says "not now": trying again may help. */
export class Unreachable extends Error {}

export class Api {
  #token;

  constructor(token) {
    this.#token = token;
  }

  async state() {
    return (await this.#ask("/api/state", {}, QUICK_MS)).json();
  }

  /** Bytes of an image, and their SHA-256 where the browser can compute it. */
  async image(address) {
    let buffer;
    const response = await this.#ask(address, {}, IMAGE_MS);
    try {
      buffer = await response.arrayBuffer();
    } catch (error) {
      throw new Unreachable(`the image did not arrive whole (${error.message})`);
    }
    return { buffer, sha256: await sha256(buffer) };
  }

  async answer(entry) {
    const response = await this.#ask(
      "/api/answers",
      { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(entry) },
      QUICK_MS,
    );
    try {
      return await response.json();
    } catch {
      throw new Unreachable("the acknowledgement did not arrive whole");
    }
  }

  async #ask(address, options, timeout) {
    let response;
    try {
      response = await fetch(address, {
        ...options,
        headers: { ...options.headers, Authorization: `Bearer ${this.#token}` },
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        signal: AbortSignal.timeout(timeout),
      });
    } catch {
      throw new Unreachable("the server does not answer");
    }
    if (response.ok) return response;
    const detail = await detailOf(response);
    // 408 and 429 ask for another try; 5xx is a server in trouble, which an operator can mend.
    if (response.status >= 500 || response.status === 408 || response.status === 429) {
      throw new Unreachable(detail || `the server is in trouble (${response.status})`);
    }
    throw new Refused(response.status, detail || `refused (${response.status})`);
  }
}

async function detailOf(response) {
  try {
    const { detail } = await response.json();
    return typeof detail === "string" ? detail : JSON.stringify(detail);
  } catch {
    return "";
  }
}

/** Hexadecimal SHA-256; null where the browser has no crypto.subtle (plain http to another machine). */
async function sha256(buffer) {
  if (!globalThis.crypto?.subtle) return null;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", buffer));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
