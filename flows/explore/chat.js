/* The chat box of a tile. The page says which tile it shows (`deltavlm:tile`) and leaves an empty element for it; this
   fills the element. Conversations live here, one per tile, for as long as the page is open. Whatever the model or
   the server says becomes text, never HTML. */
"use strict";

(() => {
  const conversations = new Map();
  let session = null;
  let modelName = "The model";

  const make = (tag, properties = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(properties)) {
      if (name.startsWith("aria") || name === "role") element.setAttribute(name.replace(/[A-Z]/, (c) => "-" + c.toLowerCase()), value);
      else element[name] = value;
    }
    element.append(...children);
    return element;
  };

  const find = (tileId) => {
    if (!conversations.has(tileId)) conversations.set(tileId, { tileId, entries: [], turns: [], pending: null, draft: "", view: null });
    return conversations.get(tileId);
  };

  /* What is said */

  const renderEntry = (entry) => {
    const who = { you: "You", model: modelName, problem: "Not answered", note: "Note" }[entry.who];
    const item = make("li", { className: "chat-entry chat-" + entry.who });
    item.append(make("b", { className: "chat-who", textContent: who }));
    item.append(make("p", { className: "chat-text", dir: "auto", textContent: entry.text }));
    if (entry.details.length) {
      const list = make("ul", { className: "chat-details" });
      for (const detail of entry.details) list.append(make("li", { textContent: detail }));
      item.append(list);
    }
    return item;
  };

  const add = (conversation, who, text, details = []) => {
    const entry = { who, text, details };
    conversation.entries.push(entry);
    const { view } = conversation;
    if (!view) return;
    view.entries.append(renderEntry(entry));
    view.log.scrollTop = view.log.scrollHeight;
  };

  const tellAnswer = (answer) => {
    const sure = answer.confidence === null ? "confidence not known" : "confidence " + answer.confidence.toFixed(2);
    return [sure, ...answer.notes];
  };

  /* Asking */

  const request = async (path, options = {}) => {
    let response;
    try {
      response = await fetch(path, options);
    } catch (problem) {
      if (problem.name === "AbortError") throw problem;
      throw { found: "the server does not answer", expected: "`deltavlm explore` at work", remedy: "start it again, then ask again" };
    }
    const body = await response.json().catch(() => null);
    if (response.ok && body !== null) return body;
    if (body && typeof body.found === "string") throw body;
    throw { found: "an answer of status " + response.status, expected: "JSON", remedy: "load the page again" };
  };

  const ask = async (conversation, question) => {
    if (conversation.pending || !question.trim()) return;
    const controller = new AbortController();
    conversation.pending = { controller, since: Date.now() };
    add(conversation, "you", question.trim());
    showState(conversation);
    try {
      const answer = await request("api/chat", {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({
          tile_id: conversation.tileId,
          question: question.trim(),
          history: conversation.turns.slice(-session.limits.max_history_turns),
        }),
        signal: controller.signal,
      });
      if (controller.signal.aborted) return;
      conversation.turns.push({ question: answer.question.slice(0, session.limits.max_question_characters), answer: answer.answer.slice(0, 8000) });
      add(conversation, "model", answer.answer || "(no words)", tellAnswer(answer));
    } catch (problem) {
      if (controller.signal.aborted) return;
      add(conversation, "problem", problem.found || String(problem), problem.found ? ["Expected: " + problem.expected, "To do: " + problem.remedy] : []);
      giveBack(conversation, question);
    } finally {
      if (conversation.pending && conversation.pending.controller === controller) conversation.pending = null;
      showState(conversation);
    }
  };

  const giveBack = (conversation, question) => {
    const { view } = conversation;
    if (conversation.draft) return;
    conversation.draft = question;
    if (view) view.input.value = question;
  };

  const cancel = (conversation) => {
    if (!conversation.pending) return;
    conversation.pending.controller.abort();
    conversation.pending = null;
    add(conversation, "note", "You cancelled this question.");
    showState(conversation);
    if (conversation.view) conversation.view.input.focus();
  };

  const startAnew = (conversation) => {
    if (conversation.pending) cancel(conversation);
    conversation.entries.length = conversation.turns.length = 0;
    if (!conversation.view) return;
    conversation.view.entries.replaceChildren();
    conversation.view.input.focus();
    showState(conversation);
  };

  /* Showing */

  const showState = (conversation) => {
    const { view, pending } = conversation;
    if (!view) return;
    view.log.hidden = conversation.entries.length === 0;
    view.thinking.hidden = !pending;
    view.status.textContent = pending ? modelName + " is thinking …" : "";
    view.send.disabled = Boolean(pending);
    view.cancel.hidden = !pending;
    view.anew.hidden = conversation.entries.length === 0;
    for (const button of view.examples) button.disabled = Boolean(pending);
    showSeconds(conversation);
  };

  const showSeconds = (conversation) => {
    const { view, pending } = conversation;
    if (!view || !pending || !view.root.isConnected) return;
    const seconds = Math.floor((Date.now() - pending.since) / 1000);
    view.seconds.textContent = seconds > 1 ? seconds + " s" : "";
    setTimeout(() => showSeconds(conversation), 1000);
  };

  const mount = (element) => {
    const tileId = element.dataset.chatTile;
    if (!session || !tileId) return;
    const shown = [...conversations.values()].find((one) => one.view && one.view.root.parentElement === element);
    if (shown && shown.tileId === tileId) return;
    if (shown) shown.view = null;
    const conversation = find(tileId);
    conversation.view = build(conversation);
    element.replaceChildren(conversation.view.root);
    conversation.view.entries.append(...conversation.entries.map(renderEntry));
    conversation.view.log.scrollTop = conversation.view.log.scrollHeight;
    showState(conversation);
  };

  const build = (conversation) => {
    const id = "chat-input-" + conversation.tileId;
    const view = { examples: [] };
    // A list that is called a log is no list any more, and its entries are lost to those who have it read to them.
    view.entries = make("ol", { className: "chat-entries" });
    view.log = make("div", { className: "chat-log", role: "log", ariaLive: "polite", ariaLabel: "Questions and answers about tile " + conversation.tileId, tabIndex: 0 }, view.entries);
    view.status = make("span", { role: "status" });
    view.seconds = make("span", { className: "chat-seconds", ariaHidden: "true" });
    view.thinking = make("p", { className: "chat-thinking" }, make("i", { ariaHidden: "true" }), view.seconds);
    view.input = make("textarea", { id, rows: 2, value: conversation.draft, maxLength: session.limits.max_question_characters, placeholder: "Ask about what changed here" });
    view.send = make("button", { type: "submit", className: "chat-send", textContent: "Ask" });
    view.cancel = make("button", { type: "button", className: "chat-cancel", textContent: "Cancel" });
    view.anew = make("button", { type: "button", className: "chat-anew", textContent: "Start anew" });
    const examples = make("div", { className: "chat-examples", role: "group", ariaLabel: "Examples" });
    for (const example of session.examples) {
      const button = make("button", { type: "button", textContent: example.label, title: example.text });
      button.addEventListener("click", () => ask(conversation, example.text));
      view.examples.push(button);
      examples.append(button);
    }
    const form = make("form", { className: "chat-form" }, make("label", { htmlFor: id, textContent: "Your question" }), view.input, make("div", { className: "chat-buttons" }, view.anew, view.cancel, view.send));
    const send = () => {
      if (conversation.pending || !view.input.value.trim()) return;
      const question = view.input.value;
      view.input.value = conversation.draft = "";
      ask(conversation, question);
    };
    form.addEventListener("submit", (event) => { event.preventDefault(); send(); });
    view.input.addEventListener("input", () => { conversation.draft = view.input.value; });
    view.input.addEventListener("keydown", (event) => {
      // Keys of a map or a dialogue around it must not take what is typed here.
      if (event.key !== "Escape" || conversation.pending) event.stopPropagation();
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
      if (event.key === "Escape") cancel(conversation);
    });
    view.cancel.addEventListener("click", () => cancel(conversation));
    view.anew.addEventListener("click", () => startAnew(conversation));
    const notes = make("div", { className: "chat-notes" });
    for (const note of session.notes) notes.append(make("p", { textContent: "Note: " + note }));
    view.root = make("section", { className: "chat", ariaLabel: "Ask the model about tile " + conversation.tileId },
      make("h3", { textContent: "Ask about this tile" }),
      make("p", { className: "chat-about", textContent: modelName + " looks at both dates of " + conversation.tileId + " again. It can be wrong, also where it is confident." }),
      notes, view.log, make("div", { className: "chat-state" }, view.status, view.thinking), examples, form);
    return view;
  };

  const mountAll = () => document.querySelectorAll("[data-chat-tile]").forEach(mount);

  const begin = async () => {
    try {
      session = await request("api/session");
    } catch {
      return;
    }
    modelName = session.model_id.split("@")[0];
    document.addEventListener("deltavlm:tile", mountAll);
    mountAll();
  };

  begin();
})();
