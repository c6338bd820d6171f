"""The demo's world: incidents with a known cause, statements about them, people who vote, and the judge."""
