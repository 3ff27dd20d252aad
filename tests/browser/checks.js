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

    /** Pictures that are seen: address, CSS pixels for a pixel, whether what is cut off can be scrolled to. */
    function shown(selector) {
        return all(selector).filter(i => i.checkVisibility() && i.clientWidth).map(i => {
            let box = i.parentElement;
            while (box !== document.body && getComputedStyle(box).overflowX === "visible") box = box.parentElement;
            const reached = box.scrollWidth <= box.clientWidth + 1 || getComputedStyle(box).overflowX === "auto";
            return [i.src, i.getBoundingClientRect().width / i.naturalWidth, reached];
        });
    }

    /** What is wrong with an element that has the focus: nothing need be scrolled there, or nobody can see it. */
    function focusProblems(e) {
        const style = getComputedStyle(e), math = e.closest(".math"), found = [];
        if (e === document.body) return found;
        const isWide = math && [math, ...math.children].some(b => b.scrollWidth > b.clientWidth);
        const isSeen = style.boxShadow !== "none"
            || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0;
        if (math && !isWide) found.push("a formula that need not scroll is a stop");
        if (!isSeen) found.push("the focus cannot be seen");
        return found.map(what => `${what}: ${e.outerHTML.slice(0, 80)}`);
    }

    /** Gives elements the focus, as if by a key where the last event was one, and says what is wrong with each. */
    function focusEach(elements) {
        return elements.filter(e => e.checkVisibility() && !e.disabled && e.tabIndex >= 0).flatMap(e => {
            e.focus({ preventScroll: true });
            return document.activeElement === e ? focusProblems(e) : [];
        });
    }

    /** What is wrong where the Tab key can stop: with the controls of an instrument, or with each kind on the page. */
    function controlProblems(figure) {
        return focusEach(all(".instrument-root :is(button, select, input, [role=slider])", figure));
    }
    function stopProblems() {
        const kinds = new Set(), isNew = kind => !kinds.has(kind) && kinds.add(kind);
        const kind = e => [e.tagName, e.className, e.parentElement.className].join();
        return focusEach(all("a[href], button, input, select, textarea, summary, [tabindex]")
            .filter(e => e.closest(".math") || e.checkVisibility() && isNew(kind(e))));
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
        await frames();
    }

    let grounds = new Map();  // of one look at the page

    /** What an element's text stands on: the colors behind it, and what its ancestors do to it. */
    function ground(e) {
        if (!e) return ["", ""];
        if (!grounds.has(e)) {
            const style = getComputedStyle(e), color = style.backgroundColor;
            let [colors, effects] = ground(e.parentElement);
            if (color.startsWith("rgb(")) colors = color;  // nothing shines through
            else if (!color.endsWith(", 0)")) colors += color;
            if (style.backgroundImage !== "none") colors += style.backgroundImage;
            for (const [part, plain] of [["opacity", "1"], ["filter", "none"], ["mixBlendMode", "normal"],
                ["position", "static"], ["transform", "none"]])
                if (style[part] !== plain && style[part] !== "relative") effects += ` ${style[part]} ${e.className}`;
            grounds.set(e, [colors, effects]);
        }
        return grounds.get(e);
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
     * of words and signs, and each costs axe milliseconds. Such a box goes empty where all its kinds of elements, in its
     * place and its colors, stand in an earlier box too.
     */
    function takeRepeated() {
        grounds = new Map();
        const seen = new Set(), found = [];
        for (const box of all(".highlight pre, math, .sig-param, .sig-return")) {
            const cell = box.closest(".cell_output, .cell_input"), around = box.parentElement;
            const where = [cell && cell.className, getComputedStyle(box).color, ...ground(box), ""].join("|");
            const kinds = [kind(around), ...[box, ...all("*", box)].map(e => where + kind(e))];
            if (kinds.every(kind => seen.has(kind))) found.push(box);
            kinds.forEach(kind => seen.add(kind));
        }
        empty(found);
    }

    /** Empties boxes until `putBack`; called after all looks, which need the layout. */
    function empty(boxes) {
        away = boxes.map(box => [box, Array.from(box.childNodes)]);
        boxes.forEach(box => box.replaceChildren());
    }

    const AROUND = "nav, header, footer, aside, figure, details, table, blockquote, .admonition, .cell_output, .cell_input";

    /** Whether axe judges a text: it is not sure of a single sign, nor of some signs that may be pictures. */
    function sure(text) {
        return [text.length > 1, /[^\0-\u02ff]/.test(text), /[a-z]{2}/i.test(text)];
    }

    /** All that decides whether an element's text is legible: its own look, and where it stands. */
    function look(e) {
        const style = getComputedStyle(e), around = e.closest(AROUND), link = e.matches("a[href]");
        const parts = [e.tagName, style.color, style.fontSize, style.fontWeight, style.textDecorationLine, style.textShadow,
            style.visibility, style.webkitTextFillColor, getComputedStyle(e.parentElement).color, ...ground(e),
            around && around.tagName + around.className, ...sure(e.textContent.trim())];
        if (link) {  // in a text it must look unlike the words around it
            const block = e.parentElement.closest("p, li, td, th, dt, dd, div, figcaption, summary, blockquote, nav");
            const inLinks = all("a", block).reduce((sum, a) => sum + a.textContent.length, 0);
            parts.push(e.className, style.borderBottom, getComputedStyle(block).color,
                block.textContent.trim().length > inLinks, all("*", e).map(child => child.tagName));
        }
        return parts.join("|");
    }

    /**
     * The first element of every look that was not judged yet, among those whose colors axe judges: text of their own,
     * controls, links. A page has thousands of them and about a hundred looks, and axe takes a millisecond for each.
     */
    function looks(judged) {
        grounds = new Map();
        const found = new Set(all("input, select, textarea, option, button, a[href]"));
        const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) if (/\S/.test(texts.currentNode.data)) found.add(texts.currentNode.parentElement);
        const known = new Set(judged), firsts = new Map();
        for (const e of found) {
            if (e.matches("script, style, noscript") || !e.checkVisibility()) continue;  // judged in no case
            const mine = look(e);
            if (!known.has(mine) && !firsts.has(mine)) firsts.set(mine, e);
        }
        return firsts;
    }

    /** Empties all that holds none of these elements: axe reads whole documents, whatever it judges. */
    function takeAllBut(elements) {
        const kept = new Set(elements), around = new Set(), boxes = [];
        for (const element of elements)
            for (let e = element.parentElement; e && !around.has(e); e = e.parentElement) around.add(e);
        const descend = parent => {
            for (const e of parent.children) {
                if (kept.has(e) || e.matches("script, style, select") || !e.firstChild) continue;
                if (around.has(e) || e.querySelector("img, canvas, iframe, input, script")) descend(e);
                else boxes.push(e);
            }
        };
        descend(document.body);
        empty(boxes);
    }

    /** Opens all folds and empties all but the figures that move. */
    function takeAllButFigures() {
        all("details").forEach(e => { e.open = true; });
        takeAllBut(all(".companion-slider, .companion-editor, figure:has(.book-instrument)"));
    }

    /** Empties all that is not inside of an element, nor around it: axe reads whole documents, whatever it judges. */
    function takeOthers(element) {
        const others = [];
        for (let e = element; e !== document.body; e = e.parentElement)
            others.push(...Array.from(e.parentElement.children).filter(o => o !== e && !o.matches("script, style")));
        empty(others);
    }

    /** Two frames, after which the page's own scripts have seen what changed in its layout. */
    function frames() {
        return new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
    }

    /** Puts back what was taken. */
    async function putBack() {
        away.forEach(([box, nodes]) => box.append(...nodes));
        away = [];
        await frames();
    }

    /** What a slider says now: its value, its picture, the picture's alt text, the read-out. */
    function slider(figure) {
        const image = figure.querySelector("img");
        return { value: figure.querySelector("input[type=range]").value, picture: image.getAttribute("src") ?? "",
            "alt text": image.getAttribute("alt") ?? "", "read-out": figure.querySelector("output").innerText };
    }

    /** The value of each slider of an editor and its read-out. */
    function readings(figure) {
        const outputs = all("output", figure);
        return all("input[type=range]", figure).map((input, i) => [input.value, outputs[i].innerText]);
    }

    /** What an editor says now: one of its sliders, and the tile of its sheet that stands in the box. */
    function editor(figure, index) {
        const image = figure.querySelector("img"), at = image.getBoundingClientRect();
        const box = image.parentElement.getBoundingClientRect(), scale = image.naturalWidth / at.width;
        const canvas = document.createElement("canvas"), [value, text] = readings(figure)[index];
        canvas.width = Math.round(box.width * scale);
        canvas.height = Math.round(box.height * scale);
        canvas.getContext("2d").drawImage(image, (at.left - box.left) * scale, (at.top - box.top) * scale);
        return { value, "spoken value": all("input[type=range]", figure)[index].ariaValueText ?? "",
            picture: canvas.toDataURL(), "alt text": image.alt, "read-out": text };
    }

    let unfolded = [];  // folds that a script opened and closed again, from outside in

    /** Whether something is seen, which an empty box is not. */
    function isSeen(e) {
        return e.checkVisibility({ visibilityProperty: true }) && e.getBoundingClientRect().height > 0;
    }

    /** Opens and closes all folds by clicks of a script; says which hide nothing, or do not do what they should. */
    function foldProblems() {
        const found = [], isClosed = e => e.matches("details:not([open]), .toggle-hidden");
        const closed = [];
        all("main details").forEach(e => { e.open = false; });  // what was looked into before
        for (const block of all("main details, main .admonition.toggle")) {
            const title = block.querySelector(":scope > :is(summary, .admonition-title)");
            const body = Array.from(block.children).find(e => e !== title && e.tagName !== "BUTTON");
            const name = title && (short(title, 60).replace(/\s+/g, " ") || block.id || block.className);
            if (!title) found.push(`a fold without a title: ${block.className}`);
            else if (!body) found.push(`'${name}' folds nothing`);
            else if (isClosed(block)) closed.push({ block, title, body, name });
        }
        const open = closed.filter(({ body }) => isSeen(body));
        closed.forEach(({ title }) => title.click());
        const shut = closed.filter(({ body }) => !isSeen(body));
        closed.toReversed().forEach(({ title }) => title.click());
        const stuck = closed.filter(fold => !isClosed(fold.block) && !shut.includes(fold));
        for (const [folds, what] of [[open, "is not folded"], [shut, "does not open on a click"], [stuck, "does not close"]])
            found.push(...folds.map(({ name }) => `'${name}' ${what}`));
        unfolded = closed.filter(fold => ![...open, ...shut, ...stuck].includes(fold));
        return found;
    }

    /** The names of the first fold of each kind which is seen; from then on they have numbers. */
    function firstFolds() {
        const kinds = new Set(), isNew = kind => !kinds.has(kind) && kinds.add(kind);
        unfolded = unfolded.filter(({ block, title }) => isSeen(title) && isNew(block.className));
        return unfolded.map(({ name }) => name);
    }

    /** The title of a fold, by its number. */
    function foldTitle(number) {
        return unfolded[number].title;
    }

    /** Whether what a fold hides is seen. */
    function isUnfolded(number) {
        return isSeen(unfolded[number].body);
    }

    return { math, pictures, width, cut, shown, focusProblems, controlProblems, stopProblems, folds, paper,
        theme, takeRepeated, looks, takeAllBut, takeAllButFigures, takeOthers, putBack, slider, readings, editor,
        foldProblems, firstFolds, foldTitle, isUnfolded };
})();
