/* What a link inside of the book leads to, shown beside it while the pointer or the focus rests on it: an equation, a
   term, a figure, a theorem, a work. The page it stands on is fetched once. Where that is impossible, the link is a link. */
document.addEventListener("DOMContentLoaded", () => {
  "use strict";
  const article = document.querySelector("article");
  if (!article || !matchMedia("(hover: hover)").matches) return;
  const WAIT = 250, pages = new Map(), here = location.href.split("#")[0];
  const card = document.createElement("div");
  card.className = "book-preview bd-article";
  card.id = "book-preview";
  card.setAttribute("role", "tooltip");
  card.hidden = true;
  document.querySelector("main").append(card);
  let timer = 0, shown = null;

  const page = (address) => {
    if (address === here) return Promise.resolve(document);
    if (!pages.has(address))
      pages.set(address, fetch(address).then((answer) => (answer.ok ? answer.text() : Promise.reject(answer.status)))
        .then((text) => new DOMParser().parseFromString(text, "text/html")));
    return pages.get(address);
  };

  /* The part of a page that an id means; nothing for a page's top or a long section. */
  const part = (root, id) => {
    const target = root.getElementById(id);
    if (!target || target.tagName === "H1") return null;
    if (target.tagName === "DT") {
      const entry = root.createElement("dl");
      entry.append(target.cloneNode(true), target.nextElementSibling?.cloneNode(true) ?? "");
      return entry;
    }
    if (target.tagName === "SECTION" || target.matches("span:empty")) {
      const section = target.closest("section"), box = root.createElement("div");
      const heading = section?.querySelector(":scope > :is(h2, h3, h4)"), text = section?.querySelector(":scope > p");
      if (!heading || !text) return null;
      const title = root.createElement("strong");
      title.textContent = heading.textContent.replace(/#$/, "");
      box.append(title, text.cloneNode(true));
      return box;
    }
    const whole = target.closest("div.math, figure, div.proof, div.admonition, div.citation, details.sd-dropdown");
    return (whole || (target.matches("div, figure") ? target : null))?.cloneNode(true) ?? null;
  };

  const hide = () => {
    clearTimeout(timer);
    card.hidden = true;
    shown?.removeAttribute("aria-describedby");
    shown = null;
  };

  const show = async (link) => {
    const [address, id] = link.href.split("#");
    let content;
    try {
      content = part(await page(address), decodeURIComponent(id));
    } catch {
      return;
    }
    if (!content || shown !== link) return;
    content.querySelectorAll("[id]").forEach((element) => element.removeAttribute("id"));
    content.removeAttribute("id");
    content.querySelectorAll("script, .headerlink, button, details.book-code").forEach((element) => element.remove());
    content.querySelectorAll("a").forEach((element) => element.removeAttribute("href"));
    content.querySelectorAll("img").forEach((image) => {
      image.src = new URL(image.getAttribute("src"), address);
      image.loading = "eager";
    });
    card.replaceChildren(document.importNode(content, true));
    card.hidden = false;
    const box = link.getBoundingClientRect(), width = Math.min(560, innerWidth - 24);
    card.style.width = `${width}px`;
    card.style.left = `${Math.max(12, Math.min(box.left, innerWidth - width - 12))}px`;
    const above = box.bottom + card.offsetHeight + 12 > innerHeight && box.top > innerHeight - box.bottom;
    card.style.top = above ? `${Math.max(8, box.top - card.offsetHeight - 8)}px` : `${box.bottom + 8}px`;
    link.setAttribute("aria-describedby", card.id);
  };

  const later = (event) => {
    const link = event.target.closest?.("a.reference.internal[href*='#']");
    if (!link || link === shown || link.classList.contains("headerlink")) return;
    hide();
    shown = link;
    timer = setTimeout(show, WAIT, link);
  };
  const away = (event) => {
    if (shown && !shown.contains(event.relatedTarget) && !card.contains(event.relatedTarget)) hide();
  };
  article.addEventListener("pointerover", later);
  article.addEventListener("focusin", later);
  article.addEventListener("pointerout", away);
  article.addEventListener("focusout", away);
  card.addEventListener("pointerleave", hide);
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
  /* A page that moves takes a preview away; one that is still to come waits until the page stands, for focus moves it. */
  document.addEventListener("scroll", () => {
    if (!card.hidden) return hide();
    if (!shown) return;
    clearTimeout(timer);
    timer = setTimeout(show, WAIT, shown);
  }, { passive: true });

  /* The list of all equations is searched while one types. */
  document.querySelectorAll("input[data-filters]").forEach((input) => {
    const rows = Array.from(document.querySelectorAll(`${input.dataset.filters} tbody tr`));
    const texts = rows.map((row) => row.textContent.toLowerCase());
    input.addEventListener("input", () => {
      const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, i) => { row.hidden = !words.every((word) => texts[i].includes(word)); });
      document.querySelectorAll("details.sd-dropdown:has(table.ledger)").forEach((fold) => {
        const hits = fold.querySelectorAll("tbody tr:not([hidden])").length;
        fold.hidden = !hits;
        fold.open = words.length > 0 && hits > 0;
      });
    });
  });
});
