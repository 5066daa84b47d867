"""The life of one guest, told by proxmoxer as anybody would use it. Prints what it saw as JSON."""
import json
import os
import time

from proxmoxer import ProxmoxAPI
from proxmoxer.core import ResourceException

account = json.loads(os.environ["ACCOUNT"])
pve = ProxmoxAPI(os.environ["PVE_HOST"], verify_ssl=os.environ["PVE_CA"], timeout=20, **account)
node, template, newid, pool = "pve1", 9000, int(os.environ["NEWID"]), os.environ["POOL"]


def follow(upid):
    task = pve.nodes(upid.split(":")[1]).tasks(upid)
    while True:
        status = task.status.get()
        if status["status"] == "stopped":
            return status["exitstatus"]
        time.sleep(0.05)


def refusal(call):
    try:
        call()
    except ResourceException as refused:
        return {"status": refused.status_code, "text": refused.content}
    return None


seen = {
    "release": pve.version.get()["release"],
    "nodes": sorted((row["node"], row["status"]) for row in pve.nodes.get()),
    "nextid": pve.cluster.nextid.get(),
    "taken": refusal(lambda: pve.cluster.nextid.get(vmid=template)),
    "unknown": refusal(lambda: pve.nodes(node).qemu(newid).config.get()),
    "wrong": refusal(lambda: pve.nodes(node).qemu(template).clone.post(newid="x", colour="red")),
}

seen["clone"] = follow(
    pve.nodes(node).qemu(template).clone.post(newid=newid, name="tour", pool=pool, full=0, target="pve2")
)
guest = pve.nodes("pve2").qemu(newid)
seen["members"] = [row["vmid"] for row in pve.pools(pool).get()["members"] if row["type"] == "qemu"]
guest.config.put(cores=4, memory=4096, ciuser="guest", tags="tour")
before = guest.config.get()
seen["config"] = {key: str(before[key]) for key in ("name", "cores", "memory", "ciuser", "tags")}
seen["stale"] = refusal(lambda: guest.config.put(cores=8, digest="0" * 40))
seen["resize"] = follow(guest.resize.put(disk="scsi0", size="+2G"))
seen["disk"] = guest.config.get()["scsi0"]
seen["snapshot"] = follow(guest.snapshot.post(snapname="fresh", description="before the start"))
seen["snapshots"] = sorted(row["name"] for row in guest.snapshot.get())
seen["unsnapshot"] = follow(guest.snapshot("fresh").delete())
seen["start"] = follow(guest.status.start.post())
seen["status"] = guest.status.current.get()["status"]
seen["destroyRunning"] = refusal(lambda: guest.delete())
# The agent comes up when the guest has booted.
while refusal(lambda: guest.agent("network-get-interfaces").get()) is not None:
    time.sleep(0.05)
seen["interfaces"] = [row["name"] for row in guest.agent("network-get-interfaces").get()["result"]]
seen["stop"] = follow(guest.status.stop.post())
seen["delete"] = follow(guest.delete(purge=1))
seen["gone"] = refusal(lambda: guest.config.get())
print(json.dumps(seen))
