// Bundles src/ into ../atlas/web/static/, which is committed: using the page needs no node.
//
//   node build.mjs           builds
//   node build.mjs --check   exits 1 where the bundle is not what the sources make
//   node build.mjs --tests   bundles tests/ into .tests/, for node's test runner
//
// The bundle's first line tells a hash of the sources, which tests/test_web_bundle.py works out again.

import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "..", "atlas", "web", "static");

/** SHA-256 over the names and contents of all that the bundle is made of, in order of name. */
async function hashOfSources() {
  const inSrc = await readdir(join(here, "src"), { recursive: true, withFileTypes: true });
  const names = inSrc
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(here.length + 1));
  names.push("build.mjs", "package-lock.json", "package.json", "tsconfig.json");
  const hash = createHash("sha256");
  for (const name of names.sort()) {
    hash.update(`${name}\0`);
    hash.update(await readFile(join(here, name)));
    hash.update("\0");
  }
  return hash.digest("hex");
}

async function bundle() {
  const sources = await hashOfSources();
  const common = { bundle: true, minify: true, write: false, logLevel: "warning" };
  const script = await build({
    ...common,
    entryPoints: [join(here, "src", "main.ts")],
    format: "iife",
    target: ["chrome120", "firefox120", "safari17.4"],
    define: { SOURCES: JSON.stringify(sources) },
    charset: "utf8",
    legalComments: "none",
    banner: { js: `/* sources ${sources} */` },
  });
  const style = await build({ ...common, entryPoints: [join(here, "src", "atlas.css")] });
  return {
    "atlas.js": script.outputFiles[0].text,
    "atlas.css": style.outputFiles[0].text,
    "index.html": await readFile(join(here, "src", "index.html"), "utf8"),
    "icon.svg": await readFile(join(here, "src", "icon.svg"), "utf8"),
  };
}

async function buildTests() {
  const names = (await readdir(join(here, "tests"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    bundle: true,
    entryPoints: names.map((name) => join(here, "tests", name)),
    outdir: join(here, ".tests"),
    outExtension: { ".js": ".mjs" },
    format: "esm",
    platform: "node",
    logLevel: "warning",
  });
}

if (process.argv.includes("--tests")) {
  await buildTests();
} else {
  const files = await bundle();
  let stale = false;
  await mkdir(out, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    const path = join(out, name);
    if (!process.argv.includes("--check")) {
      await writeFile(path, text);
      console.log(`${name}\t${(text.length / 1000).toFixed(0)} kB`);
    } else if ((await readFile(path, "utf8").catch(() => "")) !== text) {
      console.error(`atlas/web/static/${name} is not what the sources make; run \`make web\`.`);
      stale = true;
    }
  }
  process.exitCode = stale ? 1 : 0;
}
