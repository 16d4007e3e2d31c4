"use strict";
(() => {
  const all = (what, where = document) => [...where.querySelectorAll(what)];
  const root = document.documentElement;
  root.classList.add("js");

  // a click on the head of a column sorts; what has no value stays at the end
  const compare = new Intl.Collator(undefined, { numeric: true }).compare;
  const key = (row, column) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const sort = (table, column, numeric) => {
    const head = table.tHead.rows[0].cells[column];
    const up = head.getAttribute("aria-sort") !== "ascending";
    all("th[aria-sort]", table.tHead).forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const order = numeric ? (a, b) => Number(a) - Number(b) : compare;
    const rows = [...table.tBodies[0].rows].map((row) => [key(row, column), row]);
    rows.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : up ? order(a, b) : order(b, a)));
    table.tBodies[0].append(...rows.map(([, row]) => row));
  };
  all("table.sortable").forEach((table) =>
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      if (!head.textContent.trim()) return;
      const button = document.createElement("button");
      button.type = "button";
      const label = head.querySelector("span");
      label.replaceWith(button);
      button.append(label);
      button.addEventListener("click", () => sort(table, column, head.classList.contains("n")));
    }));

  // checks by verdict
  all(".filters").forEach((filters) => {
    filters.hidden = false;
    const buttons = all("button", filters);
    const rows = all(`#${filters.dataset.of} tbody tr`);
    buttons.forEach((button) => button.addEventListener("click", () => {
      buttons.forEach((other) => other.setAttribute("aria-pressed", other === button));
      rows.forEach((row) => { row.hidden = Boolean(button.value) && row.dataset.verdict !== button.value; });
    }));
  });

  // a click on a picture shows it as large as the window; arrows go on to the next
  const dialog = document.querySelector("dialog");
  const pictures = all(".picture");
  if (dialog && pictures.length && dialog.showModal) {
    const [title, before, after, close] = all("strong, button", dialog);
    let at = 0;
    const show = (index) => {
      at = (index + pictures.length) % pictures.length;
      const figure = pictures[at].closest("figure");
      const image = dialog.querySelector("img");
      image.src = pictures[at].querySelector("img").src;
      image.alt = pictures[at].querySelector("img").alt;
      title.textContent = figure.querySelector("h3").textContent;
      dialog.querySelector("p").textContent = figure.querySelector("figcaption")?.textContent ?? "";
      if (!dialog.open) dialog.showModal();
    };
    pictures.forEach((picture, index) => picture.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      show(index);
    }));
    before.addEventListener("click", () => show(at - 1));
    after.addEventListener("click", () => show(at + 1));
    close.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("keydown", (event) => {
      if (event.key === "ArrowLeft") show(at - 1);
      if (event.key === "ArrowRight") show(at + 1);
    });
  }

  // the table of contents follows the reader
  const entries = all("nav > ul > li");
  const sections = entries.map((entry) => document.getElementById(entry.firstElementChild.hash.slice(1)));
  const follow = () => {
    let here = 0;
    sections.forEach((section, index) => { if (section.getBoundingClientRect().top < innerHeight / 3) here = index; });
    entries.forEach((entry, index) => entry.classList.toggle("here", index === here));
  };
  if (entries.length) {
    let waiting = false;
    addEventListener("scroll", () => {
      if (waiting) return;
      waiting = true;
      requestAnimationFrame(() => { waiting = false; follow(); });
    }, { passive: true });
    follow();
  }

  // a link to something folded opens it; paper shows everything
  const unfold = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    const folded = target && target.closest("details");
    if (folded) folded.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
  addEventListener("beforeprint", () => all("details").forEach((fold) => { fold.open = true; }));
  root.dataset.ready = "yes";
})();
