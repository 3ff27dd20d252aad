// What harness.py asks a page; each function returns plain values, most of them a list of sentences.
window.bookChecks = (() => {
    const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
    const short = (element, length = 80) => element.textContent.trim().slice(0, length);

    /** Mathematics that is not typeset, or typeset as an error. */
    function math() {
        return [
            ...all(".math").filter(e => !e.querySelector("math")).map(e => "not typeset: " + short(e)),
            ...all("merror").map(e => "a TeX error: " + short(e)),
        ];
    }

    /** Pictures that are not loaded. */
    function pictures() {
        return Array.from(document.images).filter(i => !(i.complete && i.naturalWidth > 0))
            .map(i => "not loaded: " + i.src.slice(0, 120));
    }

    /** What is wider than the window, so that the whole page scrolls sideways. */
    function width() {
        const page = document.scrollingElement.scrollWidth, window_ = window.innerWidth;
        if (page <= window_ + 1) return [];
        const wide = all("main *").filter(e => {
            const box = e.getBoundingClientRect();
            if (box.width === 0 || box.right <= window_ + 1) return false;
            for (let p = e.parentElement; p && p !== document.body; p = p.parentElement)
                if (getComputedStyle(p).overflowX !== "visible") return false;
            return true;
        });
        const names = wide.slice(0, 5)
            .map(e => e.tagName.toLowerCase() + "." + String(e.className).split(" ").join("."));
        return [`the page is ${page} px wide in a window of ${window_} px: ${names.join(" ")}`];
    }

    /** What is wider than its box and can be seen neither whole nor by scrolling. */
    function cut() {
        return all("main .math, main table, main td, main pre")
            .filter(e => e.scrollWidth > e.clientWidth + 4 && e.clientWidth > 0)
            .filter(e => ["hidden", "clip"].includes(getComputedStyle(e).overflowX))
            .filter(e => !Array.from(e.children).some(c => getComputedStyle(c).overflowX === "auto"))
            .map(e => `cut off: ${e.scrollWidth} in ${e.clientWidth} px: ${short(e, 60)}`);
    }

    /** Where the Tab key has stopped: its tag, its start, what is wrong with it. */
    function stop() {
        const e = document.activeElement, style = getComputedStyle(e), math = e.closest(".math");
        const isWide = math && [math, ...math.children].some(b => b.scrollWidth > b.clientWidth);
        const isSeen = style.boxShadow !== "none"
            || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
        const wrong = [];
        if (math && !isWide) wrong.push("a formula that need not scroll is a stop");
        if (!isSeen) wrong.push("the focus cannot be seen");
        return { tag: e.tagName, problems: wrong.map(w => `${w}: ${e.outerHTML.slice(0, 80)}`) };
    }

    /** Which folds of the page are open. */
    function folds() {
        return all("main details").map(e => e.open);
    }

    /** What would be missing on paper, asked when the page is about to be printed. */
    function paper() {
        const moves = (figure, name) => all(`figure.${figure}`)
            .filter(e => all("input", e).some(i => i.offsetHeight) || !e.querySelector("img").offsetHeight)
            .map(e => `${name} that is no picture on paper: ${e.id}`);
        return [
            ...all("main details:not([open])").map(e => "folded on paper: " + e.id),
            ...all(".admonition.toggle .admonition-title ~ *")
                .filter(e => getComputedStyle(e).visibility !== "visible")
                .map(e => "hidden on paper: " + e.className),
            ...moves("companion-slider", "a slider"),
            ...moves("companion-editor", "an editor"),
            ...document.documentElement.dataset.theme === "light" ? [] : ["paper is not light"],
        ];
    }

    /** Switches between "light" and "dark" as the theme's own button does. */
    async function theme(name) {
        const style = document.createElement("style");  // colors in the middle of a fade are nobody's colors
        style.textContent = "*, *::before, *::after { transition: none !important; animation: none !important; }";
        document.head.append(style);
        document.documentElement.dataset.mode = name;
        document.documentElement.dataset.theme = name;
        await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    }

    let backgrounds = new Map();  // of one look at the page

    /** The color behind an element. */
    function behind(e) {
        if (!e) return "";
        if (!backgrounds.has(e)) {
            const color = getComputedStyle(e).backgroundColor;
            const isSeen = color !== "transparent" && !color.startsWith("rgba(0, 0, 0, 0");
            backgrounds.set(e, isSeen ? color : behind(e.parentElement));
        }
        return backgrounds.get(e);
    }

    let away = [];

    /** Of which kind an element is: two of a kind are alike to axe. In formulas the class is only the sign. */
    function kind(e) {
        const inMath = e.namespaceURI.endsWith("MathML");
        const attributes = Array.from(e.attributes).filter(a => !["class", "style", "id"].includes(a.name));
        return [e.tagName, inMath ? "" : e.className, e.style.color, e.textContent.trim() !== "",
            e.scrollWidth > e.clientWidth && /auto|scroll/.test(getComputedStyle(e).overflowX),
            ...attributes.map(a => a.name + (/^(role|tabindex|mathcolor)$/.test(a.name) ? a.value : ""))].join();
    }

    /**
     * Takes the insides of code, formulas and signatures away that show nothing new. They are most of a page, thousands
     * of words and signs in a few colors, and each costs axe milliseconds. Such a box goes empty where all its kinds of
     * elements, in its place and its colors, stand in an earlier box too. Where only colors are judged, which takes
     * most of the time, blocks of text that look like earlier ones go empty, too.
     */
    function takeRepeated(onlyColors = false) {
        backgrounds = new Map();
        const seen = new Set(), found = onlyColors ? repeatedText() : [], taken = new Set(found);
        const isTaken = e => e !== null && (taken.has(e) || isTaken(e.parentElement));
        for (const box of all(".highlight pre, math, .sig-param, .sig-return")) {
            if (isTaken(box)) continue;
            const cell = box.closest(".cell_output, .cell_input"), around = box.parentElement;
            const where = [cell && cell.className, getComputedStyle(box).color, behind(box), ""].join("|");
            const kinds = [kind(around), ...[box, ...all("*", box)].map(e => where + kind(e))];
            if (kinds.every(kind => seen.has(kind))) found.push(box);
            kinds.forEach(kind => seen.add(kind));
        }
        away = found.map(box => [box, Array.from(box.childNodes)]);  // after all looks, which need the layout
        found.forEach(box => box.replaceChildren());
    }

    /** All that decides whether an element's text is legible: its own look, and where it stands. */
    function look(e) {
        const style = getComputedStyle(e), around = e.closest("nav, header, footer, aside, figure, details, table,"
            + " blockquote, .admonition, .cell_output, .cell_input");
        return [e.tagName, style.color, style.fontSize, style.fontWeight, style.textDecorationLine, style.opacity,
            style.visibility, getComputedStyle(e.parentElement).color, behind(e), around && around.tagName + around.className,
            e.textContent.trim() !== ""].join("|");
    }

    /** Blocks of text whose every element looks like one of an earlier block. They are hundreds on a page. */
    function repeatedText() {
        const blocks = "p, li, td, th, dt, dd, figcaption, summary, h2, h3, div.math, .highlight pre";
        const inside = `${blocks}, ul, ol, dl, table, figure, pre, details`;
        const seen = new Set();
        return all(blocks).filter(e => !e.querySelector(inside)).filter(e => {
            const looks = [e, ...all("*", e)].map(look), isNew = looks.some(each => !seen.has(each));
            looks.forEach(each => seen.add(each));
            return !isNew;
        });
    }

    /** Empties all that is not inside of an element, nor around it: axe reads whole documents, whatever it judges. */
    function takeOthers(element) {
        const others = [];
        for (let e = element; e !== document.body; e = e.parentElement)
            others.push(...Array.from(e.parentElement.children).filter(o => o !== e && !o.matches("script, style")));
        away = others.map(box => [box, Array.from(box.childNodes)]);
        others.forEach(box => box.replaceChildren());
    }

    /** Puts back what was taken. */
    function putBack() {
        away.forEach(([box, nodes]) => box.append(...nodes));
        away = [];
    }

    /** What a fold hides: its first part without the title. */
    function hidden(block, title) {
        return Array.from(block.children).find(e => !e.contains(title) && e.tagName !== "BUTTON");
    }

    return { math, pictures, width, cut, stop, folds, paper, theme, takeRepeated, takeOthers, putBack, hidden };
})();
