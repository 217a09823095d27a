"""Clients for the services of a Jumpstarter lab controller, one package for each version of a service."""
