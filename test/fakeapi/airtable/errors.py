"""Airtable's error bodies (B6): two envelopes."""
from ..message import ApiError


def error(status, kind, message=None):
	"""{"error":{"type","message"?}}"""
	body = {'type': kind}
	if message:
		body['message'] = message
	return ApiError(status, {'error': body})


def not_found():
	"""The bare-string envelope of unknown routes and records."""
	return ApiError(404, {'error': 'NOT_FOUND'})


def no_model():
	"""Unknown base or table and no permission look the same."""
	return error(403, 'INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND',
				 'Invalid permissions, or the requested model was not found. Check that both your user and your token '
				 'have the required permissions, and that the model names and/or ids are correct.')


def invalid(message='Invalid request: parameter validation failed. Check your request data.',
			kind='INVALID_REQUEST_UNKNOWN'):
	return error(422, kind, message)


def no_row(record_id):
	return error(422, 'ROW_DOES_NOT_EXIST', f'Record ID {record_id} does not exist in this table')
