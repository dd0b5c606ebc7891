"""`PYTHONPATH=test python3 -m fakeapi --hubspot-port 0 --airtable-port 0 [--tls cert key]`.

Prints one JSON line with the ports when ready; runs until SIGTERM or SIGINT.
"""
import argparse
import asyncio
import gc
import json
import os
import signal
import ssl

from .airtable.api import Airtable
from .hubspot.api import HubSpot
from .server import ApiServer


def _arguments():
	p = argparse.ArgumentParser(prog='fakeapi', description=__doc__)
	p.add_argument('--hubspot-port', type=int, default=0)
	p.add_argument('--airtable-port', type=int, default=0)
	p.add_argument('--tls', nargs=2, metavar=('CERT', 'KEY'))
	p.add_argument('--seed', default='{}', help='JSON as POST /__ctl/reset takes it, keys hubspot and airtable')
	return p.parse_args()


def _tls(files):
	if not files:
		return None
	context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
	context.load_cert_chain(*files)
	return context


async def main():
	args = _arguments()
	seed = json.loads(args.seed)
	hubspot, airtable = ApiServer(HubSpot()), ApiServer(Airtable())
	hubspot.api.reset(seed.get('hubspot', {}))
	airtable.api.reset(seed.get('airtable', {}))
	tls = _tls(args.tls)
	ports = {'hubspot': await hubspot.listen(args.hubspot_port, tls),
			 'airtable': await airtable.listen(args.airtable_port, tls), 'tls': bool(tls), 'pid': os.getpid()}
	gc.freeze()
	stop = asyncio.Event()
	for sig in (signal.SIGTERM, signal.SIGINT):
		asyncio.get_running_loop().add_signal_handler(sig, stop.set)
	print(json.dumps(ports), flush=True)
	await stop.wait()


if __name__ == '__main__':
	asyncio.run(main())
