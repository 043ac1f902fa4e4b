"""A reviewer app: shows each request, asks what to decide, sends it signed and prints the answer.

pip install pika cryptography; then set REVIEWER_AMQP_URL, REVIEWER_ID, REVIEWER_KEY and REVIEWER_GROUP.
"""
import base64, hashlib, json, os, secrets, time, uuid
import pika
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ME, GROUP = os.environ["REVIEWER_ID"], os.environ["REVIEWER_GROUP"]
parameters = pika.URLParameters(os.environ["REVIEWER_AMQP_URL"])
parameters.heartbeat = 0  # a human may think for longer than a heartbeat
channel = pika.BlockingConnection(parameters).channel()
channel.confirm_delivery()


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(value):
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


jwk = json.load(open(os.environ["REVIEWER_KEY"]))
key = Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(jwk["d"] + "="))
kid = b64(hashlib.sha256(compact({member: jwk[member] for member in ("crv", "kty", "x")})).digest())


def sign(request, decision, code=None, **disclosed):
    """A decision; reason and arguments are disclosed beside it, so that the signature outlives their erasure."""
    said = {"approval": request["approval"], "digest": request["digest"], "decision": decision}
    said |= {"reason_code": code} if code else {}
    disclosures = {name: b64(compact([b64(secrets.token_bytes(16)), value])) for name, value in disclosed.items()}
    said |= {f"{name}_digest": b64(hashlib.sha256(text.encode()).digest()) for name, text in disclosures.items()}
    header = {"alg": "EdDSA", "typ": "countersign-decision+jwt", "kid": kid}
    payload = {"reviewer": ME, "jti": str(uuid.uuid4()), "iat": int(time.time()), "decisions": [said]}
    signing = b64(compact(header)) + "." + b64(compact(payload))
    return {"jws": signing + "." + b64(key.sign(signing.encode())), "disclosures": list(disclosures.values())}


def asked(_channel, method, _properties, body):
    request = json.loads(body)["data"]
    print(json.dumps(request, indent=2))
    word, _, rest = input("approve | reject REASON_CODE | edit ARGUMENTS | respond MESSAGE > ").partition(" ")
    if word == "edit":
        data = sign(request, word, arguments=json.loads(rest))
    else:
        code = rest if word == "reject" and request["reason_codes"] else None
        data = sign(request, word, code, **({"reason": rest} if rest and not code else {}))
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": f"/reviewers/{ME}",
             "type": "countersign.approval.decided.v1", "datacontenttype": "application/json", "data": data}
    properties = pika.BasicProperties(user_id=parameters.credentials.username, message_id=event["id"], delivery_mode=2,
                                      content_type="application/cloudevents+json")
    channel.basic_publish("countersign.decisions", "decision", json.dumps(event).encode(), properties, mandatory=True)
    channel.basic_ack(method.delivery_tag)


def answered(_channel, method, _properties, body):
    answer = json.loads(body)["data"]
    print("answer:", answer.get("decision"), answer["result"], answer.get("code", ""), answer.get("message", ""))
    channel.basic_ack(method.delivery_tag)


channel.basic_qos(prefetch_count=1)
channel.basic_consume(f"countersign.approvals.{GROUP}", asked)
channel.basic_consume(f"countersign.answers.{ME}", answered)
channel.start_consuming()
