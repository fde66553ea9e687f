"""What `pit` does: the commands of Snakepit's client, over the tree.

looking     show, status, log, stop            | running     run, put
connection  the files that say where the pit is and who one is there; the dialogue where they do not
show        entities as text                   | status      jobs as tables, of which jobquery picks some
usage       helps and refusals as Snakepit's client words them
entities    what commands are about            | choices     which of them the tab key brings
states      the letters of states              | mounting    mount
entering    exec, forward
"""
