"""The Airtable stand-in; api.Airtable is its face."""
