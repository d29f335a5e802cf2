// Sends the requests of a file over one kept TLS connection; see tests/live/client.rs.

import fs from "node:fs";
import https from "node:https";
import { setTimeout } from "node:timers/promises";

const [url, ca, requests, trigger] = process.argv.slice(2);
const headers = { "content-type": "application/json", "accept-encoding": "gzip" };
const agent = new https.Agent({ keepAlive: true, maxSockets: 1 });

function byHttps(path, body) {
  return new Promise((resolve, reject) => {
    const request = https.request(url + path, { method: "POST", headers, agent }, (response) => {
      response.on("data", () => {});
      response.on("end", () => resolve(response.statusCode));
      response.on("error", reject);
    });
    request.on("error", reject);
    request.end(body);
  });
}

async function byFetch(path, body) {
  // Bun has its own way to name an authority; node has the one of its environment.
  const trust = process.versions.bun ? { tls: { ca: fs.readFileSync(ca, "utf8") } } : {};
  const response = await fetch(url + path, { method: "POST", headers, body, ...trust });
  for await (const piece of response.body) void piece;
  return response.status;
}

const send = process.env.CLIENT_API === "fetch" ? byFetch : byHttps;
for (const [index, line] of fs.readFileSync(requests, "utf8").trim().split("\n").entries()) {
  if (index === 1 && trigger) while (!fs.existsSync(trigger)) await setTimeout(10);
  const request = JSON.parse(line);
  const status = await send(request.path, JSON.stringify(request.body));
  if (status !== 200) throw new Error(`status ${status}`);
}
agent.destroy();
