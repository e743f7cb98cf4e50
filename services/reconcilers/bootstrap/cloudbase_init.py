"""Bootstrap data for Windows: the part of cloud-config that cloudbase-init reads, with Windows' paths and commands.

cloudbase-init writes the commands of runcmd into one batch file and lets cmd.exe run it; owners of files, disks and mounts are not its business. Infrastructure
providers see the format cloud-config: that is what the data is.

Source: cloudbase-init 1.1 user data documentation and cloud-config plugins; kubeadm 1.36 on Windows; roadmap row 22.
"""

from __future__ import annotations

from services.reconcilers.bootstrap import cloud_config
from services.reconcilers.bootstrap.host import Host, HostFile, Json, Layout

SENTINEL_COMMAND = r"echo success> C:\run\cluster-api\bootstrap-success.complete"
PLACEHOLDER_PATH = r"C:\run\cluster-api\placeholder"
PLACEHOLDER = "This file is here so that its folder exists."
LAYOUT = Layout(r"C:\run\kubeadm\kubeadm.yaml", r"C:\run\kubeadm\kubeadm-join-config.yaml", r"C:\run\fleetwake", windows=True)


class CloudbaseInit:
    """The format of Windows hosts."""

    name = "cloud-config"
    layout = LAYOUT

    def refusal(self, spec: Json) -> str:
        """What of a spec has no meaning on Windows, "" if nothing."""
        for name in ("bootCommands", "diskSetup", "mounts"):
            if spec.get(name):
                return f"spec.{name}: cloudbase-init on Windows does not know it"
        for file in spec.get("files") or ():
            if file["path"].startswith("/"):
                return f"spec.files: {file['path']} is no path of Windows; write it as in C:\\etc\\file"
        for user in spec.get("users") or ():
            for name in ("sudo", "shell", "homeDir"):
                if user.get(name):
                    return f"spec.users: user {user['name']} has {name}, which Windows does not know"
        return ""

    def render(self, host: Host) -> bytes:
        """The cloud-config as UTF-8 text. Lines of Unix end in files: Windows' Kubernetes tools read them."""
        files = (*host.files, HostFile(PLACEHOLDER_PATH, PLACEHOLDER))
        lines = [cloud_config.HEADER, "write_files:"]
        for file in files:
            lines.extend(cloud_config.write_file(HostFile(file.path, file.content, encoding=file.encoding, append=file.append)))
        before, after = (*host.first, *(host.spec.get("preKubeadmCommands") or ())), host.spec.get("postKubeadmCommands") or ()
        lines.extend(cloud_config.commands("runcmd", (*before, f"{host.command} && {SENTINEL_COMMAND}", *after)))
        sections = {
            "ntp": cloud_config.ntp(host.spec.get("ntp") or {}),
            "users": [cloud_config.user(one) for one in host.users],
        }
        lines.extend(cloud_config.section(name, value) for name, value in sections.items() if value)
        return ("\n".join(lines) + "\n").encode()
