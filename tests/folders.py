"""The files of a task, put into a folder as a run has them."""


def put_files(folder, files):
    for name, content in files.items():
        (folder / name).write_bytes(content)
