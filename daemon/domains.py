"""The domain that the settings name, as the instance that they name."""

from __future__ import annotations

from dataclasses import replace

from consumers.domain import Domain, load_domain
from daemon.settings import Settings


def domain_of(settings: Settings, reference: str | None = None) -> Domain:
    """The domain, under the instance's name, reading the topics that the settings name where they name any.

    An instance with a name of its own reads a topic of that name: those of its siblings are not its.
    Raises DomainError or ModelRefusedError.

    Args:
        settings: those of one instance.
        reference: the folder to read, where it is not to be looked for again.
    """
    domain = load_domain(reference or settings.domain)
    name = settings.instance or domain.name
    topics = domain.topics if name == domain.name else (name,)
    return replace(domain, name=name, topics=settings.log.topics or topics)
