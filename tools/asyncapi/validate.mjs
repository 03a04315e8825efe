// Validates an AsyncAPI document with the official parser: validate.mjs FILE. Prints what is wrong; exit code 1 if anything is.
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { argv, env, exit } from "node:process";

// The parser is installed elsewhere than this file is.
const { Parser, DiagnosticSeverity } = createRequire(`${env.ASYNCAPI_MODULES}/`)("@asyncapi/parser");

const { document, diagnostics } = await new Parser().parse(await readFile(argv[2], "utf8"));
const wrong = diagnostics.filter(({ severity }) => severity === DiagnosticSeverity.Error);
for (const { message, path } of wrong) console.log(`${path.join(".")}: ${message}`);
if (wrong.length > 0 || !document) exit(1);
console.log(`${document.allChannels().length} channels, ${document.allOperations().length} operations, ${document.allMessages().length} messages`);
