// Incidents of the demo's world, to begin with.

export const EXAMPLES = [
  {
    name: "latency in checkout",
    incident: "API latency spike in checkout",
    evidence: ["Every handle of the pool was checked out.", "The first errors came minutes after the afternoon deploy."],
  },
  {
    name: "payments time out",
    incident: "payment timeout in billing",
    evidence: ["A marketing campaign had just gone live.", "CPU usage stayed flat throughout."],
  },
  { name: "no evidence at all", incident: "database connection failure", evidence: [] },
];
