// Writes text into the page. Strangers' text is never parsed as markup.

export const byId = (id) => document.getElementById(id);
export const part = (node, name) => node.querySelector(`[data-is="${name}"]`);
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

export function put(node, texts) {
  for (const [name, text] of Object.entries(texts)) part(node, name).textContent = text;
}

export function element(tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

export function say(text) { // also to a screen reader
  byId("said").textContent = text;
}

export const timeOf = (text) => (text && !isNaN(Date.parse(text)) ? new Date(text).toLocaleTimeString() : "");
