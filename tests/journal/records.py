"""What bodies hold and what follows from their order, by docs/reference/journal.md ("Bodies")."""
import base64
import hashlib
import json
import re

from keys import SIGN_MESSAGES, spki
from tree import Defect, need

AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
ATTEMPT = re.compile(r"[0-9a-f]{32}")
KEY = re.compile(r"[0-9a-f]{16}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
REQUEST = "algorithm caller door input_digest mode request_id signer_kid"
UPSTREAM = "attempt? region? upstream?"
CALLED = f"{UPSTREAM} earlier_attempts? upstream_request_id?"
# The table of the page: what each type's `data` has; a ? marks what may be absent.
FIELDS = {
    "init": "audit_key audit_kid by deployment new_replica? replaces?",
    "start": "audit_key audit_kid cut_bytes cut_sha256? deployment first_seq fleet? freeze? incident? key_modes? open_intents required_trail? seals signer_logs? version",
    "stop": "reason",
    "segment": "fleet? freeze? incident? key_modes? oldest_open? seals signer_logs?",
    "intent": f"{REQUEST} {UPSTREAM} justification? traceparent?",
    "signed": f"{REQUEST} {CALLED} batch? incident? intent replayed session? signature signer_record? timing_us",
    "failed": f"{REQUEST} {CALLED} detail intent reason",
    "withheld": "detail reason request_id signed signer_kid",
    "gate": "detail from signer_kid to upstream?",
    "freeze": "by id? reason",
    "unfreeze": "by frozen_by frozen_for frozen_id? reason",
    "unseal": "by reason sealed_for signer_kid?",
    "incident_begun": "by incident reason",
    "incident_captured": "by incident missing? sha256",
    "incident_item": "by detail done incident section",
    "incident_ended": "by incident left reason",
    "reload": "by generation key_modes? registry_sha256 signers_added? signers_changed? signers_left_out? signers_removed?",
    "drill": "by phase signer_kid slipped? time_to_recover_ms? time_to_refuse_ms?",
    "rehearsal": "approved_by? by detail ok? phase",
    "probes": "calls left_out? over_s",
    "refusals": "over_s refused",
    "activation": "activated by detail emergency_kid? incident? reason session? signer_head? signer_instance? signer_record?"
    " under_freeze?",
    "breakglass_ended": "by detail emergency_kid incident reason session signer_head? signer_record?",
    "fleet_freeze": "by freeze_id presented_by reason",
    "fleet_unfreeze": "approved ends expires_at presented_by reason signature statement_b64",
    "fleet_link": "fleet state",
    "signer_log": "by how known? reason? signer_head signer_instance",
    "proxy_log": "by how known? proxy_head proxy_instance reason?",
    "session_activated": "actor approvals approved approvers_sha256 by callers claimed copies? emergency_key_sha256 emergency_kid"
    " expires_at incident justification max_signatures nonce outage_since proxy_freeze? proxy_head replaces request_b64 request_sha256 session"
    " under_freeze?",
    "session_refused": "actor approved by clause detail emergency_kid? incident? justification? proxy_head request_sha256 session?",
    "emergency_signed": "actor algorithm batch? caller incident input_digest justification? mode proxy_head remaining replaces"
    " request_id session session_justification signature signer_kid",
    "emergency_refusals": "actor incident? justification? over_s refused session?",
    "session_ended": "actor by destruction_due detail emergency_kid incident justification reason session signatures",
    "destruction_overdue": "actor destruction_due emergency_kid",
    "key_destroyed": "actor by copies? emergency_key_sha256 emergency_kid overwritten reason",
    "copy_destroyed": "actor attested_by by copy emergency_kid reason",
    "unlock": "actor by outcome",
}
NUMBERS = {"cut_bytes", "first_seq", "open_intents", "oldest_open", "intent", "signed", "generation", "over_s",
           "slipped", "time_to_recover_ms", "time_to_refuse_ms",
           "max_signatures", "remaining", "signatures"}
# The sections of the runbook of which people say that they are done.
ASKED = {"2.2", "2.3", "3", "5.2", "5.3"}
# So many seals are listed, and of each so much.
LISTED = 24
# So many freezes of the fleet are in force at once.
HELD = 16
FREEZE_ID = re.compile(r"[0-9a-f]{32}")
# So many logs of emergency signers are known.
KNOWN = 8
# So many keys are known that could sign batches.
KEYS = 192
INSTANCE = re.compile(r"[0-9a-f]{64}")
PLACE = re.compile(r"[0-9a-f]{32}:(0|[1-9]\d*):[0-9a-f]{64}")
ENDS = {"expired", "quota_exhausted", "operator", "key_unavailable", "proxy", "proxy_gone", "restarted", "journal"}


def integer(text):
    need(len(text) < 20, "a number is too long")
    return int(text)


def no_float(text):
    raise Defect(f"the body has a float: {text}")


def clipped(text):
    return text.encode()[:512].decode(errors="ignore")


def is_place(name, value):
    """A head or a record of a journal; it may be absent."""
    need(value is None or PLACE.fullmatch(value), f"{name}: {value!r}")


def is_called(call, more=""):
    """A call to an upstream, in a list of them."""
    allowed = f"attempt region? upstream upstream_request_id? {more}".split()
    need(call.keys() <= {f.rstrip("?") for f in allowed}, f"a call has an unknown field: {sorted(call)}")
    need({f for f in allowed if f[-1] != "?"} <= call.keys(), f"a call lacks a field: {sorted(call)}")
    need(REQUEST_ID.fullmatch(call.get("upstream_request_id", "x")), "upstream_request_id")


def log_of(place):
    return place.split(":")[0]


def size(place):
    return integer(place.split(":")[1])


class Records:
    """Judges the records in order, and holds what the next one is judged by."""

    def __init__(self, registry, first, signer):
        # `signer` gives the DER of the audit key that signed the checkpoint of the record that is judged.
        self.registry, self.first, self.signer, self.seq = registry, first, signer, first - 1
        self.session, self.nonces, self.destroyed, self.copies, self.restarted = None, set(), set(), set(), False
        self.named = set()
        self.open, self.signed, self.withheld, self.types = {}, {}, {}, {}
        # What an operator has to end: the freeze, and the seals by signer.
        self.freeze, self.seals = None, {}
        # The incident that is open.
        self.incident = None
        # The freezes of the fleet, by id.
        self.fleet = set()
        # The logs of emergency signers that are known: instance and head, the newest last.
        self.logs = []
        self.key_modes = {}

    def judge(self, seq, body, is_first_of_segment, leaf):
        self.seq = seq
        try:
            text = body.decode()
            value = json.loads(text, parse_float=no_float, parse_int=integer, parse_constant=no_float)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise Defect(f"its body is not JSON: {error}") from None
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        need(text == canonical, "its body is not canonical")
        need(isinstance(value, dict) and value.keys() == {"at", "data", "type"}, "its body is not at, data, type")
        kind, data = value["type"], value["data"]
        need(AT.fullmatch(value["at"]), f"at: {value['at']!r}")
        self.at = value["at"]
        need(kind in FIELDS, f"type {kind!r}")
        allowed = FIELDS[kind].split()
        need(data.keys() <= {f.rstrip("?") for f in allowed}, f"{kind} has an unknown field: {sorted(data)}")
        need({f for f in allowed if f[-1] != "?"} <= data.keys(), f"{kind} lacks a field: {sorted(data)}")
        for name in NUMBERS & data.keys():
            need(type(data[name]) is int and data[name] >= 0, f"{name}: {data[name]!r}")
        need(DIGEST.fullmatch(data.get("input_digest", "sha256:" + "0" * 64)), "input_digest")
        need((kind == "init") == (self.seq == 1), "init is record 1, and nothing else is")
        if self.seq > 1 and self.seq != self.first:
            need((kind == "segment") == is_first_of_segment, f"{kind} here: segment begins every later segment, only")
        self.types[kind] = self.types.get(kind, 0) + 1
        if "actor" in FIELDS[kind].split():
            need(data["actor"] == "service:signing-breakglass", f"actor {data['actor']}")
        elif kind != "segment":
            # Only the end of a session that a killed run left may come between.
            need(self.session is None or kind in ("start", "stop"), f"{kind} in the session {self.session}")
        getattr(self, "on_" + kind, lambda *_: None)(data, leaf)

    def is_whole(self):
        return self.first == 1

    def on_init(self, data, _):
        key = base64.b64decode(data["audit_key"], validate=True)
        need(key == self.signer(), "another audit_key signed it")
        need(data["audit_kid"] == self.registry.audit[key], f"audit_kid {data['audit_kid']} is not the registry's")
        is_place("replaces", data.get("replaces"))

    def on_start(self, data, leaf):
        self.on_init(data, leaf)
        need((data["cut_bytes"] > 0) == ("cut_sha256" in data), "cut_bytes and cut_sha256")
        self.restarted = True
        if self.is_whole():
            need(data["open_intents"] == len(self.open), f"open_intents {data['open_intents']}: {sorted(self.open)}")
        told = self.told(data)
        # The state file may add; nothing but an operator's records takes away.
        need(self.freeze is None or told[0] is not None, "the freeze has no end")
        need(len(told[1]) == LISTED or self.seals.keys() <= told[1].keys(), f"seals without an end: {sorted(self.seals)}")
        need(not self.is_whole() or told[2] == self.logs, f"the known logs are {self.logs}")
        need(self.incident is None or "incident" in data, "the incident has no end")
        self.incident = data.get("incident")
        modes = self.modes(data)
        need(self.key_modes.items() <= modes.items(), f"the modes of keys were {self.key_modes}")
        self.key_modes = modes
        need(self.fleet <= told[3], f"freezes of the fleet without an end: {sorted(self.fleet - told[3])}")
        self.freeze, self.seals, self.logs, self.fleet = told

    def on_fleet_freeze(self, data, _):
        need(FREEZE_ID.fullmatch(data["freeze_id"]), f"freeze_id {data['freeze_id']!r}")
        self.fleet.add(data["freeze_id"])
        need(len(self.fleet) <= HELD, "more freezes of the fleet than there may be")

    def on_fleet_unfreeze(self, data, _):
        statement = json.loads(base64.b64decode(data["statement_b64"], validate=True))
        need(statement["type"] == "signing-proxy/fleet-unfreeze/v1", f"type {statement['type']!r}")
        need(data["ends"] == sorted(statement["ends"]), f"ends {data['ends']}, and the statement {statement['ends']}")
        need("BEGIN SSH SIGNATURE" in data["signature"], "no signature of the statement")
        self.fleet -= set(data["ends"])

    def on_fleet_link(self, data, _):
        need(data["state"] in ("joined", "lost", "heard"), f"state {data['state']!r}")

    def on_signer_log(self, data, _):
        instance, head, how, known = data["signer_instance"], data["signer_head"], data["how"], data.get("known")
        need(how in ("first", "extends", "accepted"), f"how {how!r}")
        need(("reason" in data) == (how == "accepted"), "a reason is an operator's who accepts")
        need(INSTANCE.fullmatch(instance), f"signer_instance {instance!r}")
        is_place("signer_head", head)
        is_place("known", known)
        of_log = [(size(was), was) for _, was in self.logs if log_of(was) == log_of(head)]
        if self.is_whole():
            need(how != "first" or not self.logs, "first, and others are known")
            need(how != "extends" or of_log, "extends a log that is not known")
        if of_log and how == "extends":
            newest = max(of_log)
            need(size(head) >= newest[0], f"it is behind {newest[1]}")
            need(size(head) > newest[0] or head == newest[1], f"another root than {newest[1]}")
            need(known in (None, newest[1]), f"known is {newest[1]}")
        same = lambda who, was: (who == instance, log_of(was) == log_of(head))
        gone = any if how == "accepted" else all
        self.logs = [one for one in self.logs if not gone(same(*one))] + [(instance, head)]
        self.logs = self.logs[-KNOWN:]

    def on_proxy_log(self, data, _):
        how = data["how"]
        need(how in ("first", "extends", "accepted"), f"how {how!r}")
        need(("reason" in data) == (how == "accepted"), "a reason is an operator's who accepts")
        need(INSTANCE.fullmatch(data["proxy_instance"]), f"proxy_instance {data['proxy_instance']!r}")
        is_place("proxy_head", data["proxy_head"])
        is_place("known", data.get("known"))
        if how == "extends" and "known" in data and log_of(data["known"]) == log_of(data["proxy_head"]):
            need(size(data["proxy_head"]) >= size(data["known"]), f"it is behind {data['known']}")

    def on_activation(self, data, _):
        is_place("signer_head", data.get("signer_head"))
        is_place("signer_record", data.get("signer_record"))

    on_breakglass_ended = on_activation

    def told(self, data):
        freeze, seals = data.get("freeze"), data["seals"]
        if freeze is not None:
            need(freeze.keys() - {"id"} == {"at", "by", "reason"} and AT.fullmatch(freeze["at"]), f"freeze: {freeze}")
        incident = data.get("incident")
        if incident is not None:
            keys = incident.keys() - {"captured", "done", "missing"}
            need(keys == {"at", "by", "incident", "reason"} and AT.fullmatch(incident["at"]), f"incident: {incident}")
            done = incident.get("done", [])
            need(done == sorted(set(done) & ASKED) and ("done" not in incident or done), f"incident: {incident}")
        for seal in seals:
            need(seal.keys() == {"at", "detail", "signer_kid"} and AT.fullmatch(seal["at"]), f"seal: {seal}")
        kids = [seal["signer_kid"] for seal in seals]
        need(kids == sorted(set(kids)) and len(kids) <= LISTED, f"seals of {kids}")
        logs = data.get("signer_logs", [])
        for log in logs:
            need(log.keys() == {"signer_head", "signer_instance"}, f"signer_logs: {log}")
            is_place("signer_head", log["signer_head"])
            need(INSTANCE.fullmatch(log["signer_instance"]), f"signer_logs: {log}")
        need("signer_logs" not in data or 0 < len(logs) <= KNOWN, f"signer_logs: {logs}")
        logs = [(log["signer_instance"], log["signer_head"]) for log in logs]
        fleet = data.get("fleet", [])
        for held in fleet:
            need(held.keys() == {"at", "by", "freeze_id", "reason"} and AT.fullmatch(held["at"]), f"fleet: {held}")
        ids = [held["freeze_id"] for held in fleet]
        need(ids == sorted(set(ids)) and len(ids) <= HELD and ("fleet" not in data or ids), f"fleet of {ids}")
        return freeze, {seal["signer_kid"]: seal["at"] for seal in seals}, logs, set(ids)

    def modes(self, data):
        told = data.get("key_modes", {})
        need(told.keys() <= {"batch", "single"} and ("key_modes" not in data or told), f"key_modes: {told}")
        for keys in told.values():
            need(keys and keys == sorted(set(keys)) and all(KEY.fullmatch(key) for key in keys), f"key_modes: {told}")
        modes = {key: mode for mode, keys in told.items() for key in keys}
        need(len(modes) == sum(map(len, told.values())) <= KEYS, f"key_modes: {told}")
        return modes

    def on_reload(self, data, _):
        for key, mode in self.modes(data).items():
            need(self.key_modes.setdefault(key, mode) == mode, f"the key {key} has another mode than before")

    def on_freeze(self, data, _):
        self.freeze = data | {"at": self.at}

    def on_unfreeze(self, *_):
        self.freeze = None

    def on_incident_begun(self, data, _):
        need(self.incident is None, f"the incident {self.incident} is open")
        self.incident = data | {"at": self.at}

    def on_incident_captured(self, data, _):
        self.is_open(data)
        if self.incident is not None:
            lacks = {name: data[name] for name in ["missing"] if name in data}
            before = {name: value for name, value in self.incident.items() if name != "missing"}
            self.incident = before | {"captured": data["sha256"]} | lacks

    def on_incident_item(self, data, _):
        self.is_open(data)
        need(data["section"] in ASKED and type(data["done"]) is bool, f"section {data['section']!r}")
        if self.incident is not None and data["done"]:
            done = sorted({*self.incident.get("done", []), data["section"]})
            self.incident = self.incident | {"done": done}

    def on_incident_ended(self, data, _):
        self.is_open(data)
        self.incident = None

    def is_open(self, data):
        # A journal that begins later may have begun it before.
        open_one = self.incident and self.incident["incident"]
        need(open_one == data["incident"] or not self.is_whole(), f"the incident {open_one} is open")

    def on_gate(self, data, _):
        if data["to"] == "sealed" and "upstream" not in data:
            self.seals[data["signer_kid"]] = self.at

    def on_unseal(self, data, _):
        self.seals.pop(data.get("signer_kid"), None)

    def on_segment(self, data, _):
        freeze, seals, logs, fleet = self.told(data)
        if self.seq != self.first:
            listed = dict(sorted(self.seals.items())[:LISTED])
            need(seals == listed, f"the seals in force are {listed}")
            if self.freeze is not None or len(self.seals) <= LISTED:
                mine = self.freeze and {name: clipped(text) for name, text in self.freeze.items()}
                need(freeze == mine, f"the freeze in force is {mine}")
            need(logs == self.logs, f"the known logs are {self.logs}")
            mine = self.incident or {}
            need((data.get("incident") is None) == (self.incident is None), f"the open incident is {self.incident}")
            need((data.get("incident") or {}).get("done") == mine.get("done"), f"of the open incident is done {mine.get('done')}")
            need((data.get("incident") or {}).get("missing") == mine.get("missing"), f"its newest bundle lacks {mine.get('missing')}")
            need(fleet == self.fleet, f"the freezes of the fleet are {sorted(self.fleet)}")
            need(self.modes(data) == self.key_modes, f"the modes of keys are {self.key_modes}")
        self.freeze, self.seals, self.logs, self.fleet = freeze, seals, logs, fleet
        self.incident, self.key_modes = data.get("incident"), self.modes(data)
        oldest = min(self.open, default=None)
        need(not self.is_whole() or data.get("oldest_open") == oldest, f"oldest_open is {oldest}")

    def on_intent(self, data, _):
        need(data["door"] in ("mtls", "local"), f"door {data['door']}")
        need(ATTEMPT.fullmatch(data.get("attempt", "0" * 32)), f"attempt {data.get('attempt')}")
        need(("attempt" in data) == ("upstream" in data), "attempt and upstream")
        self.open[self.seq] = data

    def on_probes(self, data, _):
        for call in data["calls"]:
            is_called(call, "operation outcome purpose signer_kid")
            order, _, number = call["attempt"].partition("-")
            need(ATTEMPT.fullmatch(order) and number.isdigit(), f"attempt {call['attempt']}")
            need(call["purpose"] in ("canary", "doctor", "warmth"), f"purpose {call['purpose']}")
            need(call["operation"] in ("Sign", "GetPublicKey", "DescribeKey"), f"operation {call['operation']}")

    def on_failed(self, data, _):
        self.outcome(data)

    def on_signed(self, data, leaf):
        self.outcome(data)
        is_place("signer_record", data.get("signer_record"))
        signature = base64.b64decode(data["signature"], validate=True)
        self.verify(data, signature)
        self.signed[self.seq] = (data, leaf, signature)

    def verify(self, data, signature):
        """The signature over the input's digest, or, of a batch signer, over its batch's note."""
        if "batch" in data:
            batch = data["batch"]
            need(sorted(batch) == ["index", "leaf", "origin", "root", "size"], f"batch {batch}")
            need(0 <= batch["index"] < batch["size"] and INSTANCE.fullmatch(batch["leaf"]), f"batch {batch}")
            name, _, id_ = batch["origin"].rpartition("/")
            need(name.endswith(f"/batch/{data['signer_kid']}") and FREEZE_ID.fullmatch(id_), f"origin {batch['origin']}")
            root = base64.b64encode(bytes.fromhex(batch["root"])).decode()
            note = f"{batch['origin']}\n{batch['size']}\n{root}\n".encode()
            digest = hashlib.sha256(note).digest()
            self.registry.verify(data["signer_kid"], data["algorithm"], signature, message=note, digest=digest)
        elif data["algorithm"] not in SIGN_MESSAGES:
            digest = bytes.fromhex(data["input_digest"].split(":")[1])
            self.registry.verify(data["signer_kid"], data["algorithm"], signature, digest=digest)

    def outcome(self, data):
        number = data["intent"]
        if number < self.first:
            return
        intent = self.open.pop(number, None)
        need(intent is not None, f"intent {number} is none, or had its outcome")
        for name in REQUEST.split():
            need(data[name] == intent[name], f"{name} is not that of intent {number}")
        self.calls(data, intent)

    def calls(self, data, intent):
        earlier, attempt = data.get("earlier_attempts", []), data.get("attempt")
        for call in earlier:
            is_called(call, "reason")
        need(REQUEST_ID.fullmatch(data.get("upstream_request_id", "x")), "upstream_request_id")
        ids = [call["attempt"] for call in earlier] + ([attempt] if attempt else [])
        expected = [f"{intent.get('attempt')}-{number}" for number in range(1, len(ids) + 1)]
        # Of an intent that a start concludes nobody knows how many calls there were.
        concluded = "signature" not in data and ids == [intent.get("attempt")]
        need(ids == expected or concluded, f"attempts {ids}, not {expected}")
        if not ids:
            need("upstream_request_id" not in data, "upstream_request_id without an attempt")
            need("signature" not in data or data["replayed"], "signed without an attempt")

    def on_session_activated(self, data, _):
        need(self.session is None, "a session is in force already")
        document = base64.b64decode(data["request_b64"], validate=True)
        need(hashlib.sha256(document).hexdigest() == data["request_sha256"], "request_sha256 is not the request's")
        request = json.loads(document)
        need(base64.b64decode(request["nonce"]).hex() == data["nonce"], "nonce is not the request's")
        need(data["nonce"] not in self.nonces, "its request was used before")
        need(data["emergency_kid"] not in self.destroyed, "its key was destroyed")
        if self.registry.is_given:
            key = self.registry.keys.get(data["emergency_kid"])
            need(key is not None, f"signer {data['emergency_kid']} is not in the registry")
            need(hashlib.sha256(spki(key)).hexdigest() == data["emergency_key_sha256"], "another key is registered")
        for name in ("callers", "replaces"):
            need(sorted(request[name]) == data[name], f"{name} are not the request's")
        for name in ("emergency_kid", "emergency_key_sha256", "incident", "justification", "max_signatures"):
            need(request[name] == data[name], f"{name} is not the request's")
        for name in ("principal", "fingerprint"):
            need(len({one[name] for one in data["approved"]}) == len(data["approved"]) >= 2, f"one {name} approved twice")
        self.nonces.add(data["nonce"])
        for copy in data.get("copies", []):
            self.named.add((data["emergency_kid"], copy))
        self.session, self.remaining, self.made, self.restarted = data, data["max_signatures"], 0, False

    def on_emergency_signed(self, data, leaf):
        session = self.session
        if session is None and not self.is_whole():
            return
        need(session is not None and not self.restarted, "no session is in force")
        need(data["session"] == session["session"], f"the session {session['session']} is in force")
        need(data["caller"] in session["callers"], "its caller is out of scope")
        need(data["replaces"] in session["replaces"], "it stands in for a signer that is out of scope")
        need(data["signer_kid"] == session["emergency_kid"], "another key than the session's")
        need(data["incident"] == session["incident"], "another incident than the session's")
        need(data["session_justification"] == session["justification"], "another justification than the session's")
        need(data["mode"] == "breakglass", f"mode {data['mode']}")
        need(0 <= data["remaining"] < self.remaining, f"remaining {data['remaining']} after {self.remaining}")
        self.remaining, self.made = data["remaining"], self.made + 1
        signature = base64.b64decode(data["signature"], validate=True)
        self.verify(data, signature)
        self.signed[self.seq] = (data, leaf, signature)

    def on_session_ended(self, data, _):
        need(data["reason"] in ENDS, f"reason {data['reason']}")
        if self.session is None and not self.is_whole():
            return
        need(self.session is not None, "no session is in force")
        need(data["session"] == self.session["session"], f"the session {self.session['session']} is in force")
        need(data["signatures"] == self.made, f"it made {self.made} signatures")
        need(not self.restarted or data["reason"] == "restarted", "a run ended the session of an earlier one")
        self.session = None

    def on_key_destroyed(self, data, _):
        need(self.session is None or self.session["emergency_kid"] != data["emergency_kid"], "a session uses it")
        self.destroyed.add(data["emergency_kid"])
        named = {copy for kid, copy in self.named if kid == data["emergency_kid"]}
        need(named <= set(data.get("copies", [])), f"copies lack {named - set(data.get('copies', []))}")
        for copy in data.get("copies", []):
            self.copies.add((data["emergency_kid"], copy))

    def on_copy_destroyed(self, data, _):
        copy = (data["emergency_kid"], data["copy"])
        need(copy in self.copies or not self.is_whole(), f"{copy} is no copy that is left")
        self.copies.discard(copy)

    def on_unlock(self, data, _):
        need(data["outcome"] in ("brought", "used", "failed", "expired", "opened", "not_opened"), f"outcome {data['outcome']}")

    def on_withheld(self, data, _):
        number = data["signed"]
        if number < self.first:
            return
        need(number in self.signed and number not in self.withheld, f"signed {number} is none, or was withheld")
        for name in ("request_id", "signer_kid"):
            need(data[name] == self.signed[number][0][name], f"{name} is not that of signed {number}")
        self.withheld[number] = self.seq

    def received(self, line, origin):
        receipt, algorithm = line["receipt"], line["algorithm"]
        need(receipt["log"] == origin, "another log")
        need(receipt["seq"] in self.signed, f"record {receipt['seq']} is not there, or not signed")
        data, leaf, signature = self.signed[receipt["seq"]]
        need(receipt["seq"] not in self.withheld, f"it was withheld by {self.withheld.get(receipt['seq'])}")
        need(receipt["leaf"] == leaf.hex(), "another leaf")
        for name in ("request_id", "signer_kid", "algorithm"):
            need(line[name] == data[name], f"{name} {data[name]} is recorded")
        need(base64.b64decode(line["signature_b64"]) == signature, "another signature is recorded")
        message = base64.b64decode(line.get("message_b64", ""))
        digest = bytes.fromhex(line.get("digest_hex", ""))
        if algorithm in SIGN_MESSAGES:
            # It signs a digest as the message of 32 bytes that it is.
            message = digest or message
            said = "sha256:" + hashlib.sha256(message).hexdigest()
        else:
            name = "sha" + algorithm[-3:]
            digest = digest or hashlib.new(name, message).digest()
            said = f"{name}:{digest.hex()}"
        need(said == data["input_digest"], f"input_digest {data['input_digest']} is recorded")
        self.registry.verify(line["signer_kid"], algorithm, signature, message, digest)
