"""The HubSpot stand-in; api.HubSpot is its face."""
