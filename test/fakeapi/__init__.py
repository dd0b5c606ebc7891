"""Stateful stand-ins for the HubSpot and Airtable APIs.  See README.md."""
