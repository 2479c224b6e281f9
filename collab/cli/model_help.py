"""What `collab train --help` says of models: written out, so that help comes without torch. A test holds it against the
recipes, and says what it should be."""

MODEL_HELP = ("For ratings: dot_bias, biases and factors; dot, factors alone; net, a network over both embeddings; "
              "classifier, ratings as classes; svdpp, SVD++ on both sides; hybrid, SVD++ with metadata; als_explicit, "
              "alternating least squares on ratings; bayes, draws of a factorisation machine, with intervals. For "
              "ranking: bpr, pairs of a chosen and another item; softmax, a history in, a softmax over all items out; "
              "sasrec, what comes next, by attention over a history in order; two_tower, an encoder for users, one for "
              "items; lightgcn, factors smoothed over the graph of choices; als, alternating least squares on what was "
              "chosen; ease, item to item, solved at once; infinite_ae, user to user, solved at once.")
FACTORS_HELP = "Factors per user and item; by default 50 (bayes: 10; sasrec: 64). Not for ease, infinite_ae."
EPOCHS_HELP = ("Passes over the training ratings, or sweeps of als; by default 5 (svdpp, hybrid: 10; bpr, als, "
               "als_explicit: 15; sasrec, lightgcn: 20; softmax: 30; bayes: 32). ease, infinite_ae are solved at once.")
BS_HELP = ("Ratings per batch; larger is faster. By default 64 (sasrec: 512; svdpp, hybrid, bpr, two_tower: 1,024; "
           "lightgcn: 2,048; softmax: 16,384). Not for als, als_explicit, bayes, ease, infinite_ae.")
USERS_HELP = "A file with a user id in each row and what is known about the user; for hybrid, two_tower and bayes."
