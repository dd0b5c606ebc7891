"""HubSpot's error bodies (API_FACTS A11).  Every function returns an ApiError to raise."""
import json
import uuid

from ..message import ApiError


def error(status, message, category=None, **more):
	"""The standard body; the correlation id is also a header."""
	cid = str(uuid.uuid4())
	body = {'status': 'error', 'message': message, 'correlationId': cid}
	if category:
		body['category'] = category
	body.update(more)
	return ApiError(status, body, {'X-HubSpot-Correlation-Id': cid})


def invalid(message, **more):
	return error(400, message, 'VALIDATION_ERROR', **more)


def bad_json():
	"""Malformed JSON has no category (A11)."""
	return error(400, 'Invalid input JSON on line 1, column 1: Unexpected character')


def not_found(object_id):
	"""Numeric ids get the short body, others OBJECT_NOT_FOUND (A11)."""
	if str(object_id).isdigit():
		return error(404, 'resource not found')
	return error(404, 'Object not found.  objectId are usually numeric.', 'OBJECT_NOT_FOUND',
				 subCategory='crm.OBJECT_NOT_FOUND', context={'id': [str(object_id)]})


def no_route():
	return error(404, 'resource not found')


def bad_values(problems):
	"""problems: list of (property, code, message)."""
	inner = [{'isValid': False, 'message': m, 'error': c, 'name': n, 'localizedErrorMessage': m}
			 for n, c, m in problems]
	return invalid('Property values were not valid: ' + json.dumps(inner, separators=(',', ':')),
				   errors=[{'message': m, 'code': c, 'context': {'propertyName': [n]}} for n, c, m in problems])


def conflict(existing):
	return error(409, f'Contact already exists. Existing ID: {existing}', 'CONFLICT')


def item_error(err, **context):
	"""An ApiError as one entry of a batch's `errors` (A10)."""
	body = err.reply.body
	out = {'status': 'error', 'category': body.get('category', 'OBJECT_NOT_FOUND'),
		   'message': body['message'], 'context': {k: v for k, v in context.items() if k != 'trace'},
		   'errors': body.get('errors', []), 'links': {}}
	if context.get('trace'):
		out['objectWriteTraceId'] = context['trace']
		out['context'] = {'objectWriteTraceId': [context['trace']], **out['context']}
	return out
