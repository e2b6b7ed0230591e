"""A notebook's end of an IPython kernel: a line of code in, what the cell gave out after a `>`."""
import sys

from jupyter_client import BlockingKernelClient

client = BlockingKernelClient(connection_file=sys.argv[1])
client.load_connection_file()
client.start_channels()
client.wait_for_ready(timeout=60)
print("ready", flush=True)

for line in sys.stdin:
    said = []

    def hear(message):
        content = message["content"]
        if message["msg_type"] == "stream":
            said.append(content["text"])
        elif message["msg_type"] == "execute_result":
            said.append(content["data"]["text/plain"])
        elif message["msg_type"] == "error":
            said.append(f"{content['ename']}: {content['evalue']}")

    client.execute_interactive(line.replace("; ", "\n"), timeout=60, output_hook=hear)
    print(">" + " ".join("".join(said).split()), flush=True)
