//! Request tokens: JWTs as django-request-token makes them.

pub mod jwt;
