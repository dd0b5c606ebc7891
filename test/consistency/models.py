"""What is checked: which collections, their mirror tables, and the columns that writers put counters into.

Data only, and how a value of the API or of a column is spelled so that both can be compared.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Collection:
    """One object type or Airtable table.  `texts` and `numbers`: API field -> column."""

    api: str                    # "hubspot", "airtable"
    key: str                    # the stand-in's name: "0-1", "tblSuppliers00001"
    path: str                   # in URLs
    table: str                  # in the mirror
    texts: dict
    numbers: dict

    @property
    def columns(self):
        """Field -> column of everything that is followed, the record's version included."""
        version = {"updatedAt": "updated_at"} if self.api == "hubspot" else {}
        return {**self.texts, **self.numbers, **version}


HUBSPOT_TYPES = (
    Collection("hubspot", "0-1", "contacts", "contact",
               {"firstname": "firstname", "lastname": "lastname", "jobtitle": "jobtitle", "email": "email"},
               {"annualrevenue": "annualrevenue"}),
    Collection("hubspot", "0-2", "companies", "company", {"name": "name", "city": "city"}, {"numberofemployees": "numberofemployees"}),
    Collection("hubspot", "0-3", "deals", "deal", {"dealname": "dealname", "description": "description"}, {"amount": "amount"}),
)
AIRTABLE_TABLES = (
    Collection("airtable", "tblSuppliers00001", "Suppliers", "suppliers", {"Name": "name"}, {"Cost": "cost"}),
    Collection("airtable", "tblBudget00000001", "2024%20Budget", "_2024_budget", {"Name": "name"}, {"Value": "value"}),
)
BY_KEY = {c.key: c for c in HUBSPOT_TYPES + AIRTABLE_TABLES}
BY_PATH = {c.path: c for c in HUBSPOT_TYPES + AIRTABLE_TABLES}


@dataclass(frozen=True)
class Pair:
    """One association table between two object types, named as the stand-in's history names it."""

    key: str                    # "0-1:0-2"
    table: str
    one: str                    # the column of the first type
    two: str


PAIRS = (
    Pair("0-1:0-2", "associations_company_contact", "contact_id", "company_id"),
    Pair("0-1:0-3", "associations_contact_deal", "contact_id", "deal_id"),
    Pair("0-2:0-3", "associations_company_deal", "company_id", "deal_id"),
)
PAIR_BY_KEY = {p.key: p for p in PAIRS}


def spelled(value):
    """A value of the API as its column's ::text would show it."""
    if value is None or value == "":
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
