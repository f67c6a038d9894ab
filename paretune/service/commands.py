"""The sub-commands of `python -m paretune.service`: users, backup, restore and doctor; without one, the server."""

from __future__ import annotations

import argparse
from pathlib import Path

from paretune.core.errors import UsageError
from paretune.service.http.storage_failures import AwayError
from paretune.service.operations.backup import back_up, restore
from paretune.service.operations.doctor import findings
from paretune.service.places import check_kept, files_of, open_database
from paretune.service.store import accounts
from paretune.service.store.database import Database

SOON = "within half a minute where the server runs"


def carry_out(options: argparse.Namespace) -> int:
    """Do what the flags ask for; return the exit code.

    Raises:
        UsageError: if it cannot be done.
    """
    if options.command in CARE:
        try:
            return CARE[options.command](options)
        except AwayError as error:
            raise UsageError(str(error)) from None
    database = open_database(options)
    try:
        if options.command == "user":
            change_users(database, options)
        else:
            from paretune.service.server import only_server, serve  # the whole server, and Optuna

            with only_server(options):
                serve(database, options)
    finally:
        database.close()
    return 0


def save(options: argparse.Namespace) -> int:
    """Do what `backup` asks for."""
    check_kept(options)
    database = open_database(options)
    try:
        print(back_up(database, files_of(options), options.file))
    finally:
        database.close()
    return 0


def make_anew(options: argparse.Namespace) -> int:
    """Do what `restore` asks for."""
    print(restore(options.file, Path(options.data), options.database))
    return 0


def examine(options: argparse.Namespace) -> int:
    """Do what `doctor` asks for; return 1 where something is wrong."""
    check_kept(options)
    healthy = True
    for finding in findings(files_of(options), options.database, full=options.full):
        print(finding, flush=True)
        healthy = healthy and finding.is_well
    return 0 if healthy else 1


CARE = {"backup": save, "restore": make_anew, "doctor": examine}


def change_users(database: Database, options: argparse.Namespace) -> None:
    """Do what `user` asks for."""
    name = getattr(options, "name", "")
    match options.action:
        case "list":
            for user, role, keys, teams in accounts.list_users(database):
                print(f"{user}: {role}, {keys} keys" + (f", of {', '.join(teams)}" if teams else ""))
        case "add":
            key = accounts.add_user(database, name, key=options.key, role=options.role, team=options.team)
            print(f"the key of {name}, shown this once: {key}")
        case "key":
            print(f"the key of {name}, shown this once: {accounts.add_key(database, name, key=options.key)}")
        case "revoke":
            print(f"{accounts.revoke_keys(database, name)} keys of {name} are void, {SOON}")
        case "remove":
            print(f"{name} is removed and its {accounts.remove_user(database, name)} keys are void, {SOON}; its runs stay")
        case "role":
            accounts.change_role(database, name, options.role)
            print(f"{name} is {options.role}, {SOON}")
        case "team":
            (accounts.leave_team if options.leave else accounts.join_team)(database, name, options.team)
            print(f"{name} is {'out of' if options.leave else 'in'} the team {options.team}, {SOON}")
