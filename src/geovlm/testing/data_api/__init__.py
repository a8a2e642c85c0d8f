"""A loopback emulator of the Data API (Astra DB Serverless, HCD, self-hosted), to test clients against.

It speaks the documented HTTP protocol on 127.0.0.1, keeps everything in memory, and needs nothing but NumPy. The
real clients work with it; with astrapy::

    with DataAPIEmulator() as api:
        client = DataAPIClient()
        database = client.get_database(api.endpoint, token=api.token)       # the paths of Astra DB
        collection = database.create_collection("scenes", definition=...)
        api.faults.add(Fault.rate_limited(), command="insertMany", times=2)
        ...
        assert api.log.count("insertMany", status=429) == 2

A client of another environment (``DataAPIClient(environment=Environment.HCD)``) takes
``UsernamePasswordTokenProvider(api.username, api.password)`` and names a keyspace.

Not emulated: lexical search (``$match``, sort by ``$lexical``), embedding services (``$vectorize``), reranking
(``findAndRerank``), tables and user-defined types, the older names of the keyspace commands, eventual consistency.
Documents come in the order of their insertion where the service has an order of its own.
"""

from geovlm.testing.data_api.faults import Fault, Faults
from geovlm.testing.data_api.limits import Limits
from geovlm.testing.data_api.log import RequestLog, RequestRecord
from geovlm.testing.data_api.server import DataAPIEmulator

__all__ = ["DataAPIEmulator", "Fault", "Faults", "Limits", "RequestLog", "RequestRecord"]
