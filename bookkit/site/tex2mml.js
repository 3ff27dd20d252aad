// Reads {macros, formulas: [[TeX, is it a display], ...]} as JSON; writes MathJax's MathML for each, or {error}.
"use strict";
const fs = require("fs"), folder = process.argv[2];
const { macros, formulas } = JSON.parse(fs.readFileSync(0, "utf8"));
const fail = (_, error) => { throw error; };
require(folder + "/node-main.js").init({
    loader: { paths: { mathjax: folder }, load: ["input/tex-base", "[tex]/ams", "[tex]/configmacros"], require },
    tex: { packages: ["base", "ams", "configmacros"], macros, formatError: fail },
}).then(mathjax => {
    const typeset = ([tex, display]) => {
        try {
            return mathjax.tex2mml(tex, { display });
        } catch (error) {
            return { error: error.message };
        }
    };
    process.stdout.write(JSON.stringify(formulas.map(typeset)));
}).catch(error => { console.error(error); process.exit(1); });
