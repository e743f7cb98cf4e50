"""Every wire shape of fleetwake: Cluster API's kinds, the records of the topics, the topics themselves. Imports no IO."""
