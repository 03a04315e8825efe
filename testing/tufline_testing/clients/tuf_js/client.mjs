// tuf-js, npm's TUF client, as a filter: a job is a line of JSON on standard input, its result a line on standard output.
//
// The fields of both are described in testing/tufline_testing/clients/running.py. TUF_JS_MODULES names the directory that `npm ci` ran in.
import crypto from "node:crypto";
import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const { Updater } = createRequire(path.join(process.env.TUF_JS_MODULES, "package.json"))("tuf-js");

async function download(updater, directory, target) {
  let found = false;
  try {
    const info = await updater.getTargetInfo(target);
    if (!info) {
      return { path: target, found };
    }
    found = true;
    const saved = await updater.downloadTarget(info, path.join(directory, "downloaded"));
    const sha256 = crypto.createHash("sha256").update(fs.readFileSync(saved)).digest("hex");
    return { path: target, found, sha256 };
  } catch (error) {
    return { path: target, found, error: `${error.name}: ${error.message}` };
  }
}

async function run(job) {
  fs.mkdirSync(job.directory, { recursive: true });
  const root = path.join(job.directory, "root.json");
  if (!fs.existsSync(root)) {
    fs.copyFileSync(job.root, root);
  }
  try {
    const updater = new Updater({
      metadataDir: job.directory,
      metadataBaseUrl: job.metadata_url,
      targetDir: job.directory,
      targetBaseUrl: job.targets_url,
      config: { prefixTargetsWithHash: job.prefix_hash, fetchRetry: 0, fetchTimeout: job.timeout * 1000 },
    });
    await updater.refresh();
    const files = [];
    for (const target of job.paths) {
      files.push(await download(updater, job.directory, target));
    }
    return { files };
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  }
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await run(JSON.parse(line)))}\n`);
}
