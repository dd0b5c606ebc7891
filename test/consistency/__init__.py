"""The consistency checker: many clients, kills and delays, and a judge who knows every state the API had."""
