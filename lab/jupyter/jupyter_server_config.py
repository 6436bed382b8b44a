"""Server settings of `vidistill lab`, which adds the root folder, the start notebook and the port."""

c = get_config()  # noqa: F821

c.ServerApp.ip = "127.0.0.1"  # notebooks run code: only this machine may reach them
c.LabApp.news_url = None  # nothing is fetched at start, so the lab opens the same without a network
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.ServerApp.jpserver_extensions = {"vidistill.lab.offline": True}
